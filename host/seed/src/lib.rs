//! The control plane: a core that is `step(event, now) -> effects`, the server around it, its store, and the client that
//! nodes and operators use.

pub mod client;
pub mod config;
pub mod core;
pub mod server;
pub mod store;

pub use client::{ClientError, SeedClient};
pub use server::{ComponentCheck, run};
