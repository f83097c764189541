//! Handlers that a node can use.

use super::{Findings, environment, limits, probes};
use crate::{
    manifest::{Handler, Isolation, Manifest, World, grants},
    names::is_name,
};

/// Compiling takes many times as much memory.
pub const COMPONENT_BYTES_MAX: u64 = 128 << 20;

/// A handler that no node could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerFault {
    /// A name that cannot stand everywhere.
    #[error("a name is 1 to 64 of a-z, 0-9, `-`, `_`, and starts with a letter")]
    Name,
    /// A component that is too large.
    #[error("the component has {bytes} bytes; {COMPONENT_BYTES_MAX} is the most")]
    ComponentBytes {
        /// Size of the component.
        bytes: u64,
    },
    /// An instance that would be replaced before its first request.
    #[error("requests_max is 0; it must be at least 1")]
    NoRequests,
    /// An instance that would take no request.
    #[error("concurrency is 0; it must be at least 1")]
    NoConcurrency,
    /// The world has no instances of several requests.
    #[error("concurrency needs an app-0.3 or live-stateful handler, and this one is {0}")]
    NotConcurrent(World),
    /// An instance of a stateful handler outlives a call.
    #[error(
        "a live-stateful handler keeps connections in its instances; write isolation = {{ concurrency = 64 }} for so \
         many in each"
    )]
    Stateful,
    /// An instance of the old world takes one request.
    #[error("an app-0.2 handler runs per request only")]
    PerRequestOnly,
}

pub(super) fn check(found: &mut Findings<'_>, name: &str, handler: &Handler, manifest: &Manifest) {
    if !is_name(name) {
        found.add(HandlerFault::Name);
    }
    let bytes = handler.component_bytes;
    if bytes > COMPONENT_BYTES_MAX {
        found.add_at("component", HandlerFault::ComponentBytes { bytes });
    }
    limits::check(&mut found.key("limits"), &handler.limits);
    check_isolation(&mut found.key("isolation"), handler);
    grants::check(&mut found.key("grants"), &handler.grants, manifest);
    environment::check(&mut found.key("environment"), handler);
    if let Some(probe) = &handler.probe {
        let mut found = found.key("probe");
        probes::check_path(&mut found, "probe.path", &probe.path);
        probes::check_host(&mut found, "probe.host", probe.host.as_deref());
    }
}

fn check_isolation(found: &mut Findings<'_>, handler: &Handler) {
    let world = handler.world;
    match handler.isolation {
        Isolation::Shared { requests_max: 0 }
        | Isolation::Concurrent {
            requests_max: 0, ..
        } => found.add_at("requests_max", HandlerFault::NoRequests),
        Isolation::Concurrent { concurrency: 0, .. } => {
            found.add_at("concurrency", HandlerFault::NoConcurrency);
        }
        Isolation::Concurrent { .. } if !matches!(world, World::App03 | World::LiveStateful) => {
            found.add(HandlerFault::NotConcurrent(world));
        }
        Isolation::PerRequest | Isolation::Shared { .. } if world == World::LiveStateful => {
            found.add(HandlerFault::Stateful);
        }
        Isolation::Shared { .. } if world == World::App02 => {
            found.add(HandlerFault::PerRequestOnly);
        }
        _ => {}
    }
}
