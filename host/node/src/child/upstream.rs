//! Where relays go: named upstreams of the build, and built-in ones that the directory answers.

use super::hop::HopKey;
use http::uri::Authority;
use protoplex_edge::upstream::Group;
use protoplex_wire::{
    manifest::{Role, Upstream},
    status::Addresses,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Upstreams of one build.
#[derive(Default)]
pub(super) struct Upstreams(HashMap<String, Arc<Group>>);

/// The fleet, as the directory says.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    pub(super) hop_key: HopKey,
    nodes: BTreeMap<Role, Vec<Authority>>,
    next: AtomicUsize,
}

impl Upstreams {
    /// Groups that `held` has already are carried over, with their connections and what they know of their servers.
    ///
    /// # Errors
    /// An upstream that cannot be used, and why.
    pub(super) fn new(
        upstreams: &BTreeMap<String, Upstream>,
        held: &[&Self],
        children: usize,
    ) -> Result<Self, String> {
        let group = |name: &String, upstream: &Upstream| {
            let mut known = held.iter().filter_map(|other| other.0.get(name));
            match known.find(|group| group.upstream() == upstream) {
                Some(group) => Ok(Arc::clone(group)),
                None => Group::new(upstream, children)
                    .map_err(|why| format!("upstream `{name}`: {why}")),
            }
        };
        upstreams
            .iter()
            .map(|(name, upstream)| Ok((name.clone(), group(name, upstream)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The group of that name.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<Group>> {
        self.0.get(name)
    }

    /// Closes connections that are idle for too long.
    pub(super) fn sweep(&self) {
        self.0.values().for_each(|group| group.sweep());
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
    pub(super) fn pick(&self, role: &str) -> Option<Authority> {
        let (_, nodes) = self
            .nodes
            .iter()
            .find(|(known, _)| known.to_string() == role)?;
        turn(nodes, &self.next)
    }
}

fn turn(all: &[Authority], next: &AtomicUsize) -> Option<Authority> {
    all.get(
        next.fetch_add(1, Ordering::Relaxed)
            .checked_rem(all.len())?,
    )
    .cloned()
}
