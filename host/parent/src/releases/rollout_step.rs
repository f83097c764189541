//! The step of a release that is under way on this node: who is waited for, and when it is done.
//!
//! No I/O, and no access to children or the Seed: the releases ask this what to say.

use crate::builds::ReadyBuild;
use protoplex_wire::{BuildId, ReleaseId};
use std::{collections::HashSet, sync::Arc, time::Instant};

#[cfg(test)]
mod tests;

/// What children are ordered to do with a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepKind {
    Prepare,
    Activate,
}

/// A build to be prepared or activated under a release. The children that have not yet done it are waited for.
pub(super) struct RolloutStep {
    release: ReleaseId,
    kind: StepKind,
    /// `None` until the build's files are ready.
    build: Option<Arc<ReadyBuild>>,
    waiting: HashSet<usize>,
    /// A child has done it. Before that, nothing is known of the build.
    is_confirmed: bool,
    since: Instant,
}

/// A step that all who were waited for have done.
pub(super) struct DoneStep {
    pub(super) release: ReleaseId,
    pub(super) kind: StepKind,
    pub(super) build: Arc<ReadyBuild>,
    pub(super) since: Instant,
}

impl RolloutStep {
    /// A step whose build's files are being made ready.
    pub(super) fn fetching(release: ReleaseId, since: Instant) -> Self {
        Self {
            release,
            kind: StepKind::Prepare,
            build: None,
            waiting: HashSet::new(),
            is_confirmed: false,
            since,
        }
    }

    /// Children have now been ordered to prepare the build.
    pub(super) fn preparing(self, build: Arc<ReadyBuild>, children: &[usize]) -> Self {
        Self {
            build: Some(build),
            waiting: children.iter().copied().collect(),
            ..self
        }
    }

    /// Children have been ordered to switch to the build.
    pub(super) fn activating(
        release: ReleaseId,
        build: Arc<ReadyBuild>,
        children: &[usize],
        since: Instant,
    ) -> Self {
        Self {
            kind: StepKind::Activate,
            ..Self::fetching(release, since).preparing(build, children)
        }
    }

    pub(super) fn release(&self) -> ReleaseId {
        self.release
    }

    pub(super) fn kind(&self) -> StepKind {
        self.kind
    }

    pub(super) fn build(&self) -> Option<&Arc<ReadyBuild>> {
        self.build.as_ref()
    }

    /// When the order came.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether the step waits for the files that were made ready for `release`.
    pub(super) fn is_fetching(&self, release: ReleaseId) -> bool {
        self.release == release && self.build.is_none()
    }

    pub(super) fn is_about(&self, release: ReleaseId, build: BuildId) -> bool {
        self.release == release && self.build.as_ref().is_some_and(|ready| ready.id == build)
    }

    /// Notes that a child has done what it was ordered. A word that is not about this step changes nothing, and `false`
    /// is returned: a new child says the like of the active build.
    pub(super) fn child_did(
        &mut self,
        child: usize,
        kind: StepKind,
        release: ReleaseId,
        build: BuildId,
    ) -> bool {
        let fits = self.kind == kind && self.is_about(release, build);
        if fits {
            self.waiting.remove(&child);
            self.is_confirmed = true;
        }
        fits
    }

    /// Waits for a child that has started in the middle of the step. Returns the build that the child has to be given,
    /// once there is one.
    pub(super) fn child_joined(&mut self, child: usize) -> Option<Arc<ReadyBuild>> {
        let build = self.build.clone()?;
        self.waiting.insert(child);
        Some(build)
    }

    /// Waits no longer for a child whose process has ended.
    pub(super) fn child_gone(&mut self, child: usize) {
        self.waiting.remove(&child);
    }

    /// Whether some child has shown that the build is good.
    pub(super) fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Whether a child has done it, and none is waited for.
    pub(super) fn is_done(&self) -> bool {
        self.is_confirmed && self.waiting.is_empty()
    }

    /// What is to be said of a step that is done; `None` where its build's files are not even ready.
    pub(super) fn done(self) -> Option<DoneStep> {
        Some(DoneStep {
            release: self.release,
            kind: self.kind,
            build: self.build?,
            since: self.since,
        })
    }
}
