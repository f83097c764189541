//! The order that is under way, and the builds that a node could switch to.

use crate::builds::ReadyBuild;
use protoplex_handler::BuildFault;
use protoplex_wire::{BuildId, Digest, ReleaseId};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Instant,
};
use tokio::sync::mpsc;

/// The outcome of making a build's files ready.
pub(crate) struct Made {
    pub(super) release: ReleaseId,
    pub(super) result: Result<ReadyBuild, BuildFault>,
}

/// Builds that this node could switch to, and the order under way.
pub(crate) struct Orders {
    pub(super) made: mpsc::Sender<Made>,
    /// Builds that could be switched to, by id.
    pub(super) ready: BTreeMap<BuildId, Arc<ReadyBuild>>,
    pub(super) step: Option<Step>,
}

/// An order under way: the children that have not yet done it are waited for.
pub(super) struct Step {
    pub(super) release: ReleaseId,
    /// `None` until its files are ready.
    pub(super) build: Option<Arc<ReadyBuild>>,
    pub(super) waiting: HashSet<usize>,
    /// A child has done it. Before that, nothing is known of the build.
    pub(super) confirmed: bool,
    pub(super) activating: bool,
    pub(super) since: Instant,
}

impl Step {
    pub(super) fn is_about(&self, release: ReleaseId, build: BuildId) -> bool {
        self.release == release && self.build.as_ref().is_some_and(|ready| ready.id == build)
    }
}

impl Orders {
    /// No order is under way. Returns also where the builds that are made come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Made>) {
        let (made, receiver) = mpsc::channel(4);
        (
            Self {
                made,
                ready: BTreeMap::new(),
                step: None,
            },
            receiver,
        )
    }

    /// Components of all builds that could be switched to; children keep native code of these alone.
    pub(super) fn components(&self) -> HashSet<Digest> {
        self.ready
            .values()
            .flat_map(|build| build.native.keys().copied())
            .collect()
    }

    /// Builds that another node may name beside the active one: those before it, and one that is prepared.
    pub(crate) fn beside(&self, active: BuildId) -> Vec<Arc<ReadyBuild>> {
        let others = self.ready.values().filter(|build| build.id != active);
        others.cloned().collect()
    }

    /// Keeps a build, so that it can be switched to.
    pub(crate) fn hold(&mut self, build: &Arc<ReadyBuild>) {
        self.ready.insert(build.id, Arc::clone(build));
    }
}
