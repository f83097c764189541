//! The control plane: a core that is `step(event, now) -> effects`, the server around it, and its store. Nodes and
//! operators speak to it by `protoplex-seed-client`.

pub mod config;
pub mod core;
pub mod server;
pub mod store;

pub use server::{ComponentCheck, run};
