//! Where relays go: named upstreams of the build, and built-in ones that the directory answers.

use super::hop::HopKey;
use http::uri::Authority;
use protoplex_wire::{
    manifest::{Role, Upstream},
    status::Addresses,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Timeouts of built-in upstreams.
const ROLE_TIMEOUTS: Timeouts = Timeouts {
    first_byte: Duration::from_secs(60),
    idle: Duration::from_secs(300),
};

/// How long a relay waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// Until the head of the response, connecting included.
    pub(super) first_byte: Duration,
    /// Between two frames of a body.
    pub(super) idle: Duration,
}

/// One server, picked.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) authority: Authority,
    pub(super) timeouts: Timeouts,
}

/// Upstreams of one build.
#[derive(Debug, Default)]
pub(super) struct Upstreams(HashMap<String, Named>);

#[derive(Debug)]
struct Named {
    addresses: Vec<Authority>,
    timeouts: Timeouts,
    next: AtomicUsize,
}

/// The fleet, as the directory says.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    pub(super) hop_key: HopKey,
    nodes: BTreeMap<Role, Vec<Authority>>,
    next: AtomicUsize,
}

impl Upstreams {
    pub(super) fn new(upstreams: &BTreeMap<String, Upstream>) -> Self {
        let named = |upstream: &Upstream| Named {
            addresses: upstream
                .addresses
                .iter()
                .filter_map(|address| address.parse().ok())
                .collect(),
            timeouts: Timeouts {
                first_byte: Duration::from_millis(
                    upstream.connect_timeout_ms + upstream.first_byte_timeout_ms,
                ),
                idle: Duration::from_millis(upstream.idle_timeout_ms),
            },
            next: AtomicUsize::new(0),
        };
        Self(
            upstreams
                .iter()
                .map(|(name, upstream)| (name.clone(), named(upstream)))
                .collect(),
        )
    }

    /// Round robin over a named upstream's servers.
    pub(super) fn pick(&self, name: &str) -> Option<Target> {
        let named = self.0.get(name)?;
        let authority = turn(&named.addresses, &named.next)?;
        Some(Target {
            authority,
            timeouts: named.timeouts,
        })
    }
}

impl Fleet {
    pub(super) fn new(hop_key: &str, nodes: &BTreeMap<Role, Vec<Addresses>>) -> Self {
        let authority =
            |addresses: &Addresses| addresses.http.strip_prefix("http://")?.parse().ok();
        let nodes = nodes
            .iter()
            .map(|(role, all)| (*role, all.iter().filter_map(authority).collect()));
        Self {
            hop_key: HopKey::new(hop_key),
            nodes: nodes.collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Round robin over the healthy nodes of a role.
    pub(super) fn pick(&self, role: &str) -> Option<Target> {
        let (_, nodes) = self
            .nodes
            .iter()
            .find(|(known, _)| known.to_string() == role)?;
        let authority = turn(nodes, &self.next)?;
        Some(Target {
            authority,
            timeouts: ROLE_TIMEOUTS,
        })
    }
}

fn turn(all: &[Authority], next: &AtomicUsize) -> Option<Authority> {
    all.get(
        next.fetch_add(1, Ordering::Relaxed)
            .checked_rem(all.len())?,
    )
    .cloned()
}
