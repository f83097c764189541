//! Interfaces that hold types alone: there is nothing to be called.

use crate::{
    bindings::{edge::protoplex::edge, host::protoplex::host, live_stateful::protoplex::live},
    state::{HostState, LiveState},
};

impl host::types::Host for HostState {}

impl edge::types::Host for HostState {}

impl live::types::Host for LiveState {}
