//! Forgets builds that can no longer be switched to: here, in the children and on disk.

use super::{Releases, rollout_step::RolloutStep};
use crate::supervisor::Supervisor;
use protoplex_wire::{BuildId, ReleaseId};

impl Releases {
    /// Makes all children forget a prepared build, unless it is held on disk for another reason.
    pub(super) fn forget(
        &mut self,
        release: ReleaseId,
        build: BuildId,
        supervisor: &mut Supervisor,
    ) {
        if self.envelope(build).is_some() {
            return;
        }
        self.ready.remove(&build);
        supervisor.abandon(release, build, &self.ready.components());
    }

    /// Forgets builds that are not on disk to be switched to.
    pub(super) fn sweep_ready(&mut self) {
        self.ready.retain_held(&self.store.state().held);
    }

    /// Makes children forget what could not be switched to: what failed on another node, and, where a child started late,
    /// what its siblings were switched away from.
    pub(super) fn sweep_children(&self, supervisor: &mut Supervisor) {
        let under_way = self.step.as_ref().and_then(RolloutStep::build);
        let under_way = under_way.map(|build| build.id);
        if under_way.is_none() {
            supervisor.retain_native(&self.ready.components());
        }
        let stays = |build: &BuildId| self.ready.contains(build) || Some(*build) == under_way;
        supervisor.abandon_others(self.store.state().release, stays);
    }

    /// After a switch: builds, blobs and code that no held build uses go.
    pub(super) fn sweep(&mut self, supervisor: &mut Supervisor) {
        self.sweep_ready();
        self.sweep_children(supervisor);
        // Where a manifest cannot be read, it is not known what its build needs.
        if let Some(used) = self.store.used() {
            self.store.sweep(&used);
        }
    }
}
