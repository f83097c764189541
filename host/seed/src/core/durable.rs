//! State that a Seed must never forget: the fence, the active build, the history.

use protoplex_wire::{
    BuildId, ReleaseId,
    signature::Envelope,
    status::{Hold, NodeAnswer, ReleaseOutcome, ReleaseRecord},
};
use serde::{Deserialize, Serialize};

/// Releases that the history keeps: a rollback may go to any of them.
pub const HISTORY_MAX: usize = 100;
/// The only format of the state so far.
pub const FORMAT: u32 = 1;

/// State that is persisted as a whole before any effect that depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// Format of the state: [`FORMAT`].
    pub format: u32,
    /// Epoch of the last release.
    pub epoch: u64,
    /// Sequence of the last release. Epoch and sequence never fall, failed releases included.
    pub sequence: u64,
    /// Build that the fleet is ordered to run.
    pub active: Option<ActiveBuild>,
    /// Secret of the fleet that authenticates build tokens, 64 hexadecimal digits.
    pub hop_key: String,
    /// Records of releases, the oldest first, at most [`HISTORY_MAX`].
    pub history: Vec<ReleaseRecord>,
    /// The hold: a node came with a release that is not in here, and nothing is ordered until an operator has decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// A build that was checked and may be released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedBuild {
    /// Id of the build.
    pub id: BuildId,
    /// Name of the build.
    pub name: String,
    /// The signature that vouches for the build.
    pub envelope: Envelope,
}

/// The fleet's standing order: the active build and its release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveBuild {
    /// Release under which nodes that come are given the build.
    pub release: ReleaseId,
    /// Build that every node should run.
    pub build: CheckedBuild,
}

pub(super) fn is_running(record: &ReleaseRecord) -> bool {
    record.outcome == ReleaseOutcome::Running
}

impl Durable {
    /// The state of a Seed that has never released anything.
    pub fn new(hop_key: String) -> Self {
        Self {
            format: FORMAT,
            epoch: 1,
            sequence: 0,
            active: None,
            hop_key,
            history: Vec::new(),
            hold: None,
        }
    }

    /// The highest release so far.
    pub fn last(&self) -> ReleaseId {
        ReleaseId {
            epoch: self.epoch,
            sequence: self.sequence,
        }
    }

    /// The active build's id.
    pub fn active_build(&self) -> Option<BuildId> {
        self.active.as_ref().map(|active| active.build.id)
    }

    /// Build of a release, where that is still known.
    pub(super) fn build_of(&self, release: ReleaseId) -> Option<BuildId> {
        let active = self.active.as_ref().filter(|a| a.release == release);
        let record = || self.history.iter().find(|r| r.release == release);
        active
            .map(|active| active.build.id)
            .or_else(|| record().map(|record| record.build))
    }

    pub(super) fn next(&mut self) -> ReleaseId {
        self.sequence += 1;
        self.last()
    }

    /// Gives the active build a number above everything that was handed out.
    pub(super) fn renew_active(&mut self) {
        if self.active.is_none() {
            return;
        }
        let release = self.next();
        if let Some(active) = &mut self.active {
            active.release = release;
        }
    }

    pub(super) fn rollback_target(&self) -> Option<BuildId> {
        let active = self.active_build();
        let promoted = |r: &&ReleaseRecord| r.outcome == ReleaseOutcome::Promoted;
        let mut builds = self.history.iter().rev().filter(promoted).map(|r| r.build);
        builds.find(|build| Some(*build) != active)
    }

    pub(super) fn begin(&mut self, record: ReleaseRecord) {
        self.history.push(record);
        let excess = self.history.len().saturating_sub(HISTORY_MAX);
        self.history.drain(..excess);
    }

    pub(super) fn end_running(&mut self, reason: &str) {
        for record in self.history.iter_mut().filter(|r| is_running(r)) {
            record.outcome = ReleaseOutcome::Reverted;
            record.reason = Some(reason.to_owned());
        }
    }

    /// Completes the record of a release and returns it.
    pub(super) fn end(
        &mut self,
        release: ReleaseId,
        outcome: ReleaseOutcome,
        reason: Option<String>,
        now_ms: u64,
        answers: Vec<NodeAnswer>,
    ) -> Option<&mut ReleaseRecord> {
        let record = self.history.iter_mut().find(|r| r.release == release)?;
        record.outcome = outcome;
        record.reason = reason;
        record.elapsed_ms = now_ms.saturating_sub(record.started_unix_ms);
        record.answers = answers;
        Some(record)
    }
}
