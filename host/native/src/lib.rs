//! Native code of components: compiled once on a machine, in a process of its own, and kept in a cache that the nodes and
//! the Seed of one user share. Nothing here runs a guest.

mod cache;
mod compiler;
mod program;
mod sweep;

pub use cache::NativeCache;
pub use compiler::{COMPILE_MEMORY_BYTES_MAX, compile_main};
pub use program::this_program;
pub use sweep::NATIVE_BYTES_MAX;
