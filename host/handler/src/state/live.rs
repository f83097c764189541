//! Data of a store that runs a live guest.

use super::{effects::Effects, host::HostState};
use crate::{context::HandlerContext, cpu::CpuMeter, limiter::Limiter, store::StoreData};
use protoplex_wire::manifest::Limits;
use std::sync::Arc;

pub(crate) struct LiveState {
    pub(crate) host: HostState,
    pub(crate) effects: Effects,
}

impl LiveState {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            host: HostState::new(limits),
            effects: Effects::new(limits),
        }
    }

    /// Before a call.
    pub(crate) fn begin(&mut self, context: &Arc<HandlerContext>) {
        self.effects.clear();
        self.host.begin(context);
    }
}

impl StoreData for LiveState {
    fn limiter(&mut self) -> &mut Limiter {
        &mut self.host.limiter
    }

    fn meter(&self) -> &CpuMeter {
        &self.host.meter
    }
}
