//! A child process: it accepts connections and answers requests, by the build that its parent told it to use.
//!
//! In: the control socket and the listening sockets that it inherits. Out: replies, and answers to the parent. It
//! reads no file but what the parent hands it, and knows nothing of the Seed.

mod access_log;
mod assets;
pub mod background;
pub mod build;
pub mod builds;
pub mod context;
mod control_loop;
mod decide;
mod drain_deadline;
mod fleet;
mod forwarded;
mod hops;
mod inherited;
pub mod metrics;
mod origin;
mod owned_head;
mod probe;
mod relay;
mod relay_grant;
pub mod reply;
pub mod request;
pub mod role;
pub mod route;
mod service;
pub mod tally;
mod upstream;

use anyhow::Context;
use protoplex_control::messages::{CHILD_ENV, ChildConfig};
use protoplex_wire::Role;
use role::StartRole;

/// The whole life of a child.
///
/// # Errors
/// When the environment is not one that a parent made, or the instance pool does not fit.
pub fn main(start_role: impl FnOnce(Role) -> StartRole) -> anyhow::Result<()> {
    let config = std::env::var(CHILD_ENV)
        .with_context(|| format!("{CHILD_ENV} is not set: only a node's parent starts a child"))?;
    let config: ChildConfig =
        serde_json::from_str(&config).with_context(|| format!("{CHILD_ENV} cannot be read"))?;
    let mut runtime = if config.threads <= 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(config.threads);
        runtime
    };
    let runtime = runtime.enable_all().build().context("no runtime")?;
    let start_role = start_role(config.role);
    runtime.block_on(control_loop::run(config, start_role))
}
