//! Releases on this node: the builds that it holds, and the Seed's orders to prepare, activate and abandon one. Every
//! order is answered: PREPARED or ACK once the children have done it and the disk has it, else NACK.

mod forget;
mod orders;
mod progress;
mod ready_builds;
mod rollout_step;
#[cfg(test)]
mod tests;

use crate::{
    builds::{BlobSource, Builder, ReadyBuild},
    seed_voice::SeedVoice,
    store::{NodeState, Store},
};
use protoplex_handler::BuildFault;
use protoplex_wire::{BuildId, ReleaseId, link::FromNode, release::Stage, signature::Envelope};
use ready_builds::ReadyBuilds;
use rollout_step::RolloutStep;
pub(crate) use rollout_step::StepKind;
use std::{sync::Arc, time::Instant};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Builds made ready that may wait for the actor; there is one at a time, and some that were given up.
const MADE_MAX: usize = 4;

/// The outcome of making a build's files ready for a release.
pub(crate) struct BuildMade {
    release: ReleaseId,
    result: Result<ReadyBuild, BuildFault>,
}

/// What a child says of a build that it was ordered to prepare or activate.
pub(crate) struct ChildReport {
    pub(crate) child: usize,
    pub(crate) release: ReleaseId,
    pub(crate) build: BuildId,
    /// What the child has done, or why it could not.
    pub(crate) result: Result<StepKind, BuildFault>,
}

/// Owner of the store, the builds that are ready, and the order under way.
pub(crate) struct Releases {
    store: Store,
    builder: Arc<Builder>,
    /// Where builds come out that tasks of `tasks` make ready.
    made: mpsc::Sender<BuildMade>,
    tasks: TaskTracker,
    /// The build that answers.
    active: Option<Arc<ReadyBuild>>,
    ready: ReadyBuilds,
    step: Option<RolloutStep>,
}

impl Releases {
    /// No build answers and no order is under way. Returns also where the builds come out that are made ready.
    pub(crate) fn new(
        store: Store,
        builder: Builder,
        tasks: TaskTracker,
    ) -> (Self, mpsc::Receiver<BuildMade>) {
        let (made, receiver) = mpsc::channel(MADE_MAX);
        let releases = Self {
            store,
            builder: Arc::new(builder),
            made,
            tasks,
            active: None,
            ready: ReadyBuilds::default(),
            step: None,
        };
        (releases, receiver)
    }

    /// Makes the last good build whose files are right the active one.
    pub(crate) async fn load_from_disk(&mut self) {
        for envelope in &self.store.state().held {
            match self.builder.make(envelope, BlobSource::Disk).await {
                Ok(build) => {
                    tracing::info!(build = build.id.short(), "the last good build is on disk");
                    let build = Arc::new(build);
                    self.ready.insert(&build);
                    self.active = Some(build);
                    return;
                }
                Err(fault) => {
                    let build = envelope.build.short();
                    tracing::error!(build, stage = %fault.stage, reason = fault.reason, "a build on disk is refused");
                }
            }
        }
    }

    // What is known.

    /// What is on disk.
    pub(crate) fn state(&self) -> &NodeState {
        self.store.state()
    }

    /// The build that answers.
    pub(crate) fn active(&self) -> Option<BuildId> {
        self.active.as_ref().map(|build| build.id)
    }

    /// The envelope of a build that is held on disk.
    pub(crate) fn envelope(&self, build: BuildId) -> Option<&Envelope> {
        let held = &self.store.state().held;
        held.iter().find(|envelope| envelope.build == build)
    }
}

/// Answers an order that cannot be carried out.
fn nack(seed: &mut SeedVoice, release: ReleaseId, fault: BuildFault, since: Instant) {
    let BuildFault { stage, reason } = fault;
    tracing::error!(%release, %stage, reason, "a release is refused");
    seed.tell(FromNode::Nack {
        release,
        stage,
        reason,
        elapsed_ms: millis(since),
    });
}

fn fault(stage: Stage, reason: impl Into<String>) -> BuildFault {
    let reason = reason.into();
    BuildFault { stage, reason }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
