//! Forgets builds that can no longer be switched to: here, in the children and on disk.

use crate::actor::Actor;
use protoplex_control::messages::ToChild;
use protoplex_wire::{BuildId, ReleaseId};
use std::collections::HashSet;

impl Actor {
    /// Makes all children forget a prepared build, unless it is held for another reason.
    pub(super) async fn forget(&mut self, release: ReleaseId, build: BuildId) {
        if self.is_held(&build) {
            return;
        }
        self.orders.ready.remove(&build);
        let components = self.orders.components();
        for index in 0..self.seats.len() {
            self.seats[index].builds.remove(&build);
            self.seats[index]
                .native
                .retain(|component| components.contains(component));
            self.send(index, &ToChild::Abandon { release, build }, &[]);
        }
    }

    fn is_held(&self, build: &BuildId) -> bool {
        self.store
            .state()
            .held
            .iter()
            .any(|envelope| envelope.build == *build)
    }

    /// Forgets builds that are not on disk to be switched to.
    pub(super) fn sweep_ready(&mut self) {
        let held: HashSet<BuildId> = self
            .store
            .state()
            .held
            .iter()
            .map(|envelope| envelope.build)
            .collect();
        self.orders.ready.retain(|id, _| held.contains(id));
    }

    /// Children forget what could not be switched to: what failed on another node, and, where a child started late, what
    /// its siblings were switched away from.
    pub(super) async fn sweep_children(&mut self) {
        let release = self.store.state().release;
        let under_way = self
            .orders
            .step
            .as_ref()
            .and_then(|step| step.build.clone());
        let under_way = under_way.map(|build| build.id);
        let components = self.orders.components();
        for index in 0..self.seats.len() {
            let ready = &self.orders.ready;
            let seat = &mut self.seats[index];
            if under_way.is_none() {
                seat.native
                    .retain(|component| components.contains(component));
            }
            let gone = seat
                .builds
                .extract_if(|id| !ready.contains_key(id) && Some(*id) != under_way);
            for build in gone.collect::<Vec<_>>() {
                self.send(index, &ToChild::Abandon { release, build }, &[]);
            }
        }
    }

    /// After a switch: builds, blobs and code that no held build uses go.
    pub(super) async fn sweep(&mut self) {
        self.sweep_ready();
        self.sweep_children().await;
        // Where a manifest cannot be read, it is not known what its build needs.
        if let Some(used) = self.store.used() {
            self.store.sweep(&used);
        }
    }
}
