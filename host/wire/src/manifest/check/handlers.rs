//! Check of handlers: components and instances that a node can use.

use super::{Findings, environment, limits, probes};
use crate::{
    manifest::{Handler, HandlerFault, Isolation, Manifest, World, grants},
    names::is_name,
};

/// Most bytes of a component: compiling takes many times as much memory.
pub const COMPONENT_BYTES_MAX: u64 = 128 << 20;

pub(super) fn check(found: &mut Findings<'_>, name: &str, handler: &Handler, manifest: &Manifest) {
    if !is_name(name) {
        found.add(HandlerFault::Name);
    }
    let (bytes, most) = (handler.component_bytes, COMPONENT_BYTES_MAX);
    if bytes > most {
        found.add_at("component", HandlerFault::ComponentBytes { bytes, most });
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
