//! Orders as a node without processes takes them: what it says to the Seed and to children, and what it keeps.

use super::*;
use crate::{
    supervisor::{OutgoingMessage, Supervisor},
    testing::{connected_voice, ready_build, releases, said, supervisor, told},
};
use std::path::Path;
use tokio::sync::mpsc::Receiver;

mod answers;
mod fence;

fn number(epoch: u64, sequence: u64) -> ReleaseId {
    ReleaseId { epoch, sequence }
}

/// A node with two children, of which the first has started.
struct Node {
    releases: Releases,
    supervisor: Supervisor,
    seed: SeedVoice,
    said: Receiver<FromNode>,
    child: Receiver<OutgoingMessage>,
    made: Receiver<BuildMade>,
}

impl Node {
    fn new(dir: &Path) -> Self {
        let (releases, made) = releases(dir);
        let mut supervisor = supervisor(2);
        let child = supervisor.fake_child(0);
        let (seed, said) = connected_voice();
        Self {
            releases,
            supervisor,
            seed,
            said,
            child,
            made,
        }
    }

    /// A node that has a build whose files are ready.
    fn with_ready(dir: &Path) -> (Self, Arc<ReadyBuild>) {
        let mut node = Self::new(dir);
        let build = ready_build("a");
        node.releases.ready.insert(&build);
        (node, build)
    }

    fn prepare(&mut self, release: ReleaseId, build: &ReadyBuild) {
        let envelope = build.envelope.clone();
        let (supervisor, seed) = (&mut self.supervisor, &mut self.seed);
        self.releases
            .prepare(release, build.id, envelope, supervisor, seed);
    }

    fn activate(&mut self, release: ReleaseId, build: BuildId) {
        let (supervisor, seed) = (&mut self.supervisor, &mut self.seed);
        self.releases.activate(release, build, supervisor, seed);
    }

    fn abandon(&mut self, release: ReleaseId) {
        self.releases.abandon(release, &mut self.supervisor);
    }

    fn child_gone(&mut self, child: usize, status: &str) {
        self.supervisor.ended(child, status.into());
        let (supervisor, seed) = (&mut self.supervisor, &mut self.seed);
        self.releases.child_gone(child, supervisor, seed);
    }

    fn report(&mut self, release: ReleaseId, build: BuildId, result: Result<StepKind, BuildFault>) {
        let report = ChildReport {
            child: 0,
            release,
            build,
            result,
        };
        let (supervisor, seed) = (&mut self.supervisor, &mut self.seed);
        self.releases.child_reported(report, supervisor, seed);
    }

    fn told(&mut self) -> Vec<&'static str> {
        told(&mut self.child)
    }

    /// What the Seed was told since the last look, in short.
    fn answers(&mut self) -> Vec<Answer> {
        let answer = |message| match message {
            FromNode::Prepared { release, .. } => Answer::Prepared(release),
            FromNode::Ack { release, .. } => Answer::Ack(release),
            FromNode::Nack {
                release,
                stage,
                reason,
                ..
            } => Answer::Nack(release, stage, reason),
            other => panic!("{other:?}"),
        };
        said(&mut self.said).into_iter().map(answer).collect()
    }
}

/// An answer to an order, without the time that it took.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Prepared(ReleaseId),
    Ack(ReleaseId),
    Nack(ReleaseId, Stage, String),
}
