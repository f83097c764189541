//! Builds whose files are ready, so that children could be given them at once.

use crate::builds::ReadyBuild;
use protoplex_wire::{BuildId, Digest, signature::Envelope};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// Builds that this node could switch to, by id.
#[derive(Default)]
pub(super) struct ReadyBuilds(BTreeMap<BuildId, Arc<ReadyBuild>>);

impl ReadyBuilds {
    /// Keeps a build, so that it can be switched to.
    pub(super) fn insert(&mut self, build: &Arc<ReadyBuild>) {
        self.0.insert(build.id, Arc::clone(build));
    }

    pub(super) fn get(&self, build: &BuildId) -> Option<Arc<ReadyBuild>> {
        self.0.get(build).cloned()
    }

    pub(super) fn contains(&self, build: &BuildId) -> bool {
        self.0.contains_key(build)
    }

    pub(super) fn remove(&mut self, build: &BuildId) {
        self.0.remove(build);
    }

    /// Keeps no others than builds that are held on disk.
    pub(super) fn retain_held(&mut self, held: &[Envelope]) {
        let held: HashSet<_> = held.iter().map(|envelope| envelope.build).collect();
        self.0.retain(|id, _| held.contains(id));
    }

    /// Builds that another node may name beside the active one: those before it, and one that is prepared.
    pub(super) fn other_than(&self, active: BuildId) -> Vec<Arc<ReadyBuild>> {
        let others = self.0.values().filter(|build| build.id != active);
        others.cloned().collect()
    }

    /// Components of all builds. Children keep native code of these alone.
    pub(super) fn components(&self) -> HashSet<Digest> {
        let builds = self.0.values();
        builds
            .flat_map(|build| build.native.keys().copied())
            .collect()
    }
}
