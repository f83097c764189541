//! Where relays go that name an upstream of the build. Built-in ones are the fleet's.

use super::metrics::{OTHER, UPSTREAMS_LABELLED_MAX};
use protoplex_upstream::{Group, Load, UpstreamContext};
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
        means: &UpstreamContext,
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

    /// Whether a group is one of this build's.
    pub(super) fn has(&self, group: &Arc<Group>) -> bool {
        self.0.values().any(|own| Arc::ptr_eq(own, group))
    }

    /// Closes connections that are idle for too long.
    pub(super) fn sweep(&self) {
        self.0.values().for_each(|group| group.sweep());
    }
}

/// Adds what the upstreams of all builds hold, by name; `all` begins with the build that answers. Of an upstream that
/// two builds have differently both groups' connections count, and the servers of the first.
pub(super) fn add_loads<'a>(
    loads: &mut BTreeMap<String, Load>,
    all: impl Iterator<Item = &'a Upstreams>,
) {
    let mut seen: HashMap<&str, Vec<&Arc<Group>>> = HashMap::new();
    for (name, group) in all.flat_map(|upstreams| &upstreams.0) {
        let groups = seen.entry(name).or_default();
        if groups.iter().any(|other| Arc::ptr_eq(other, group)) {
            continue;
        }
        let mut load = group.load();
        if !groups.is_empty() {
            (load.healthy, load.unhealthy, load.ejected) = (0, 0, 0);
        }
        groups.push(group);
        let is_known = loads.contains_key(name) || loads.len() < UPSTREAMS_LABELLED_MAX;
        let name = if is_known { name } else { OTHER };
        *loads.entry(name.to_owned()).or_default() += load;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn shared_groups_count_once_and_upstream_labels_are_bounded() {
        let means = UpstreamContext::default();
        let upstream = |address: &str| Upstream {
            addresses: vec![address.to_owned()],
            ..Upstream::default()
        };
        let one = BTreeMap::from([("a".to_owned(), upstream("127.0.0.1:1"))]);
        let first = Upstreams::new(&one, &[], &means).unwrap();
        let same = Upstreams::new(&one, &[&first], &means).unwrap();
        let many = (0..2 * UPSTREAMS_LABELLED_MAX).map(|n| format!("b{n}"));
        let many = many.map(|name| (name, upstream("127.0.0.1:1")));
        let many = many.chain([("a".to_owned(), upstream("127.0.0.1:2"))]);
        let many = Upstreams::new(&many.collect(), &[&same], &means).unwrap();
        // One request is at the server of the shared group.
        let group = first.named("a").unwrap();
        let _lease = group.servers().pick(None, 0, Instant::now()).unwrap();
        let mut loads = BTreeMap::new();
        add_loads(&mut loads, [&same, &first, &many].into_iter());
        assert_eq!((loads["a"].healthy, loads["a"].in_flight), (1, 1));
        assert_eq!(loads.len(), UPSTREAMS_LABELLED_MAX + 1);
        assert_eq!(loads[OTHER].healthy, UPSTREAMS_LABELLED_MAX + 1);
    }
}
