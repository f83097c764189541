//! Interfaces of `protoplex:host`, which edge and live handlers can call alike: a module for each.

pub mod clock;
pub mod log;
pub mod random;
pub mod settings;

// The package, as the world that the crate is for imports it.
#[cfg(feature = "edge")]
use crate::edge::bindings::protoplex::host as imports;
#[cfg(all(feature = "live", not(feature = "edge")))]
use crate::live::bindings::protoplex::host as imports;
