//! The control plane: a core that is `step(event, now) -> effects`, the server around it, its store, the fleet's
//! authority, and the client that nodes and operators use.

pub mod authority;
pub mod client;
pub mod config;
pub mod core;
pub mod identity;
mod lines;
pub mod mutual_tls;
pub mod server;
pub mod store;

pub use client::{ClientError, SeedClient};
pub use server::{ComponentCheck, run};
