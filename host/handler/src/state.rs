//! Data of the stores that run edge and live guests: what their imports read and write.

mod effects;
mod host;
mod live;
mod wasi;

pub use effects::{EFFECTS_MAX, Effect, NAME_BYTES_MAX};
pub(crate) use host::HostState;
pub(crate) use live::LiveState;
pub(crate) use wasi::WasiState;
