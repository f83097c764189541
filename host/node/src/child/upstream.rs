//! Where relays go that name an upstream of the build. Built-in ones are the fleet's.

use protoplex_edge::upstream::{Group, Means};
use protoplex_wire::manifest::Upstream;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Upstreams of one build.
#[derive(Default)]
pub(super) struct Upstreams(HashMap<String, Arc<Group>>);

impl Upstreams {
    /// Groups that `held` has already are carried over, with their connections and what they know of their servers.
    ///
    /// # Errors
    /// An upstream that cannot be used, and why.
    pub(super) fn new(
        upstreams: &BTreeMap<String, Upstream>,
        held: &[&Self],
        means: &Means,
    ) -> Result<Self, String> {
        let group = |name: &String, upstream: &Upstream| {
            let mut known = held.iter().filter_map(|other| other.0.get(name));
            match known.find(|group| group.upstream() == upstream) {
                Some(group) => Ok(Arc::clone(group)),
                None => {
                    Group::new(upstream, means).map_err(|why| format!("upstream `{name}`: {why}"))
                }
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
