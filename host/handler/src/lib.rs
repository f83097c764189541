//! Running handlers: engine, native code, instance pools, limits, worlds. The only user of wasmtime's bindings.
//!
//! In: verified native code, a handler's manifest entry, request heads and bodies. Out: decisions, responses, or a
//! [`HandlerError`] that says whose fault it was. It never looks at routes or sockets.

mod app;
mod bindings;
mod cpu;
mod edge;
mod engine;
mod error;
mod error_of;
mod guest_output;
mod inspect;
mod limiter;
mod linkers;
mod live;
mod native;
mod outgoing;
mod places;
mod pool;

pub use app::{AppBody, AppHandler};
pub use edge::{Decision, EdgeContext, EdgeHandler, Field, RelayDecision, Retry, decision};
pub use engine::{Runtime, RuntimeConfig};
pub use error::HandlerError;
pub use inspect::{Inspection, inspect};
pub use linkers::Linkers;
pub use live::{
    Again, EFFECTS_MAX, Effect, LiveError, LiveHandler, LiveMessage, NAME_BYTES_MAX, Outcome,
    SAVED_BYTES_MAX, Saved, Session, Transport,
};
pub use native::{BuildFault, native_file_name, precompile};
pub use pool::warming_up;
