//! What a child's process has been given, so that nothing is sent twice and what goes is named.

use protoplex_wire::{BuildId, Digest};
use std::collections::HashSet;

/// Builds and native code that a child holds.
#[derive(Default)]
pub(super) struct GivenBuilds {
    builds: HashSet<BuildId>,
    native: HashSet<Digest>,
}

impl GivenBuilds {
    /// Notes that the child is sent a component's native code. Returns whether it lacked it.
    pub(super) fn add_native(&mut self, component: Digest) -> bool {
        self.native.insert(component)
    }

    pub(super) fn add_build(&mut self, build: BuildId) {
        self.builds.insert(build);
    }

    pub(super) fn has(&self, build: &BuildId) -> bool {
        self.builds.contains(build)
    }

    pub(super) fn remove_build(&mut self, build: &BuildId) {
        self.builds.remove(build);
    }

    /// Notes that the child keeps native code of these components alone.
    pub(super) fn retain_native(&mut self, components: &HashSet<Digest>) {
        self.native
            .retain(|component| components.contains(component));
    }

    /// Takes out the builds that are not to stay.
    pub(super) fn take_others(&mut self, stays: impl Fn(&BuildId) -> bool) -> Vec<BuildId> {
        self.builds.extract_if(|build| !stays(build)).collect()
    }
}
