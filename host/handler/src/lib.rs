//! Running handlers: engine, native code, instance pools, limits, worlds. The only user of wasmtime's bindings.
//!
//! In: verified native code, a handler's manifest entry, request heads and bodies. Out: decisions, responses, or a
//! [`HandlerError`] that says whose fault it was. It never looks at routes or sockets.

mod bindings;
mod context;
mod cpu;
pub mod decision;
mod engine;
mod error;
mod error_of;
mod fault;
mod inspect;
mod interfaces;
mod limiter;
mod linkers;
mod native;
mod places;
mod pool;
mod precompile;
mod request_copy;
mod state;
mod store;
mod ticker;
mod worlds;

pub use context::HandlerContext;
pub use engine::{Runtime, RuntimeConfig};
pub use error::HandlerError;
pub use fault::BuildFault;
pub use inspect::{Inspection, inspect};
pub use linkers::Linkers;
pub use native::native_file_name;
pub use pool::warming_up;
pub use precompile::precompile;
pub use state::{EFFECTS_MAX, Effect, NAME_BYTES_MAX};
pub use worlds::{
    app::{AppBody, AppHandler},
    edge::EdgeHandler,
    live::{
        Again, LiveError, LiveHandler, LiveMessage, Outcome, SAVED_BYTES_MAX, Saved, Session,
        Transport,
    },
};
