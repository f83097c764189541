//! One release at a time: waves of prepare and activate, and the way back.
//!
//! It ends by itself in every case: each phase has a deadline, and so has the way back.

use super::{
    CoreEffect, OrderRefusal, PendingOrder, SeedCore,
    durable::{ActiveBuild, CheckedBuild},
    fleet::TaskFailure,
};
use protoplex_wire::{
    BuildId, ReleaseId,
    link::FromSeed,
    manifest::Role,
    status::{AnswerKind, AwayNode, NodeAnswer, ReleaseEvent, ReleaseOutcome, ReleaseRecord},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The release that is going on.
#[derive(Clone)]
pub(super) struct Rollout {
    pub release: ReleaseId,
    build: CheckedBuild,
    phase: RolloutPhase,
    /// Nodes of the running wave that have not answered the phase yet.
    waiting: BTreeSet<String>,
    /// All nodes of the running wave.
    wave: BTreeSet<String>,
    /// Waves that have not begun.
    waves: VecDeque<Vec<String>>,
    /// Every node that was told to switch, whether it said that it did or not.
    switching: BTreeSet<String>,
    answers: BTreeMap<String, NodeAnswer>,
    deadline_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum RolloutPhase {
    Preparing,
    Activating,
    /// The nodes that were told to switch go back to the build before, by a release of its own.
    Reverting {
        release: ReleaseId,
        reason: String,
    },
}

impl SeedCore {
    pub(super) fn order(
        &mut self,
        PendingOrder {
            request,
            build,
            made_against,
        }: PendingOrder,
    ) {
        if let Err(refusal) = self.may_order(made_against) {
            self.out.push(CoreEffect::Refused { request, refusal });
            return;
        }
        let release = self.begin_record(&build);
        self.out.push(CoreEffect::Accepted { request, release });
        let names: Vec<_> = self.staying().into_iter().collect();
        self.out.push(CoreEffect::Emit(ReleaseEvent::Started {
            release,
            build: build.id,
            nodes: names.clone(),
        }));
        let size = self.plan.wave_nodes_max.max(1);
        self.rollout = Some(Rollout {
            release,
            build,
            phase: RolloutPhase::Preparing,
            waiting: BTreeSet::new(),
            wave: BTreeSet::new(),
            waves: names.chunks(size).map(<[String]>::to_vec).collect(),
            switching: BTreeSet::new(),
            answers: BTreeMap::new(),
            deadline_ms: self.now_ms,
        });
        self.next_wave();
    }

    fn may_order(&self, made_against: Option<Option<BuildId>>) -> Result<(), OrderRefusal> {
        if let Some(rollout) = &self.rollout {
            return Err(OrderRefusal::Busy {
                running: rollout.release,
            });
        }
        let active = self.durable.active_build();
        match made_against {
            Some(made_against) if made_against != active => Err(OrderRefusal::Conflict {
                active,
                made_against,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn begin_record(&mut self, build: &CheckedBuild) -> ReleaseId {
        let started_unix_ms = self.now_ms;
        let previous = self.durable.active_build();
        self.rise_above_nodes();
        let durable = self.change();
        let release = durable.next();
        durable.begin(ReleaseRecord {
            release,
            build: build.id,
            name: build.name.clone(),
            previous,
            outcome: ReleaseOutcome::Running,
            reason: None,
            started_unix_ms,
            elapsed_ms: 0,
            answers: Vec::new(),
            away: Vec::new(),
            unreached: Vec::new(),
        });
        release
    }

    /// Nodes that are here and not about to drain: one that drains may be gone before it can answer.
    fn staying(&self) -> BTreeSet<String> {
        let stays = |name: &&String| {
            self.nodes
                .get(*name)
                .is_some_and(|node| !node.hello.leaving)
        };
        self.links.values().filter(stays).cloned().collect()
    }

    /// Begins the next wave that has a node in it, or promotes when there is none.
    fn next_wave(&mut self) {
        let connected = self.staying();
        let deadline_ms = self.now_ms + self.plan.prepare_timeout_ms;
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        let next = std::iter::from_fn(|| rollout.waves.pop_front())
            .map(|wave| wave.into_iter().filter(|name| connected.contains(name)))
            .map(Iterator::collect::<BTreeSet<_>>)
            .find(|wave| !wave.is_empty());
        let Some(wave) = next else {
            self.promote();
            return;
        };
        rollout.phase = RolloutPhase::Preparing;
        rollout.deadline_ms = deadline_ms;
        rollout.waiting = wave.clone();
        rollout.wave = wave.clone();
        let (release, build) = (rollout.release, rollout.build.clone());
        for name in &wave {
            if let Some(node) = self.nodes.get_mut(name) {
                node.task = None; // The release takes the place of a catch-up.
            }
            self.order_prepare(name, release, &build);
        }
    }

    pub(super) fn rollout_prepared(&mut self, name: &str, release: ReleaseId, elapsed_ms: u64) {
        let build = self
            .rollout
            .as_ref()
            .filter(|rollout| rollout.release == release)
            .map(|rollout| rollout.build.id);
        if let Some(build) = build {
            self.has_prepared(name, build);
        }
        if self.answered(
            name,
            release,
            &RolloutPhase::Preparing,
            AnswerKind::Prepared,
            elapsed_ms,
        ) {
            self.activate();
        }
    }

    pub(super) fn rollout_acked(&mut self, name: &str, release: ReleaseId, elapsed_ms: u64) {
        let waited = self.rollout.as_ref().is_some_and(|rollout| {
            rollout.phase == RolloutPhase::Activating
                && rollout.release == release
                && rollout.waiting.contains(name)
        });
        if waited && let Some(rollout) = &self.rollout {
            let build = rollout.build.id;
            if let Some(node) = self.nodes.get_mut(name) {
                node.switched(release, build);
            }
        }
        if self.answered(
            name,
            release,
            &RolloutPhase::Activating,
            AnswerKind::Ack,
            elapsed_ms,
        ) {
            self.next_wave();
        }
        self.node_reverted(name, release);
    }

    /// Counts an answer. Returns whether it was the last one of the phase.
    fn answered(
        &mut self,
        name: &str,
        release: ReleaseId,
        phase: &RolloutPhase,
        answer: AnswerKind,
        elapsed_ms: u64,
    ) -> bool {
        let Some(rollout) = &mut self.rollout else {
            return false;
        };
        if rollout.release != release || rollout.phase != *phase || !rollout.waiting.remove(name) {
            return false;
        }
        let last = rollout.waiting.is_empty();
        self.record(name, answer, elapsed_ms);
        last
    }

    fn record(&mut self, name: &str, answer: AnswerKind, elapsed_ms: u64) {
        let answer = NodeAnswer {
            node: name.to_owned(),
            answer,
            elapsed_ms,
        };
        if let Some(rollout) = &mut self.rollout {
            rollout.answers.insert(name.to_owned(), answer.clone());
        }
        self.out.push(CoreEffect::Emit(ReleaseEvent::Node(answer)));
    }

    fn activate(&mut self) {
        let deadline_ms = self.now_ms + self.plan.activate_timeout_ms;
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        rollout.phase = RolloutPhase::Activating;
        rollout.deadline_ms = deadline_ms;
        rollout.waiting = rollout.wave.clone();
        rollout.switching.extend(rollout.wave.iter().cloned());
        let (release, build) = (rollout.release, rollout.build.id);
        let wave = rollout.wave.clone();
        // Who switches hears first of whom not to relay to: a node that came meanwhile lacks the build.
        self.directory.stale = true;
        self.refresh_directory();
        self.out
            .push(CoreEffect::Emit(ReleaseEvent::Activating { release }));
        for name in wave {
            self.send(&name, FromSeed::Activate { release, build });
        }
    }

    /// Takes back a node of the wave that comes while the others switch: it has switched, or it is led there again.
    /// Returns whether the rollout looks after this node.
    pub(super) fn rejoin_rollout(&mut self, name: &str) -> bool {
        let Some(rollout) = &self.rollout else {
            return false;
        };
        if rollout.phase != RolloutPhase::Activating || !rollout.waiting.contains(name) {
            return false;
        }
        let (release, build) = (rollout.release, rollout.build.clone());
        let hello = self
            .nodes
            .get(name)
            .map(|node| (node.hello.active, node.hello.release));
        if hello == Some((Some(build.id), release)) {
            self.rollout_acked(name, release, 0);
        } else {
            self.start_task(name, release, build);
        }
        true
    }

    /// Takes note that a node refused, or missed the deadline of an order of its own.
    pub(super) fn rollout_failed(&mut self, name: &str, release: ReleaseId, failure: TaskFailure) {
        let Some(rollout) = &self.rollout else {
            return;
        };
        if rollout.release == release && rollout.waiting.contains(name) {
            let reason = match failure.stage {
                Some(stage) => format!("node {name} refused it at {stage}: {}", failure.reason),
                None => format!("node {name}: {}", failure.reason),
            };
            let answer = match failure.stage {
                Some(stage) => AnswerKind::Nack {
                    stage,
                    reason: failure.reason,
                },
                None => AnswerKind::Missing,
            };
            let forward = !matches!(rollout.phase, RolloutPhase::Reverting { .. });
            if forward {
                self.record(name, answer, failure.elapsed_ms);
                self.revert(reason);
                return;
            }
        }
        self.node_reverted(name, release);
    }

    /// Takes note that a node left. While the wave prepares, that ends the release; a node that is switching may come
    /// back until the deadline.
    pub(super) fn rollout_left(&mut self, name: &str) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        match rollout.phase.clone() {
            RolloutPhase::Preparing if rollout.wave.contains(name) => {
                self.record(name, AnswerKind::Missing, 0);
                self.revert(format!("node {name} left while it prepared the build"));
            }
            RolloutPhase::Reverting { release, .. } => self.node_reverted(name, release),
            _ => {}
        }
    }

    /// Goes on without a node that is about to drain. It is brought along when it comes back.
    pub(super) fn rollout_without(&mut self, name: &str) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        if let RolloutPhase::Reverting { release, .. } = rollout.phase {
            return self.node_reverted(name, release);
        }
        rollout.switching.remove(name);
        if !rollout.wave.remove(name) {
            return;
        }
        let was_last = rollout.waiting.remove(name) && rollout.waiting.is_empty();
        let (none, preparing) = (
            rollout.wave.is_empty(),
            rollout.phase == RolloutPhase::Preparing,
        );
        self.record(name, AnswerKind::Missing, 0);
        match (was_last, preparing) {
            (false, _) => {}
            (true, true) if !none => self.activate(),
            (true, _) => self.next_wave(),
        }
    }

    /// Builds that requests from one node to another may name now, and the nodes whose turn is still to come.
    pub(super) fn named(&self) -> (Vec<BuildId>, BTreeSet<&String>) {
        // While the Seed holds, it does not know what its nodes route by.
        let active = self.durable.active_build().filter(|_| !self.holds());
        let mut builds: Vec<_> = active.into_iter().collect();
        let mut later = BTreeSet::new();
        if let Some(rollout) = &self.rollout
            && rollout.phase != RolloutPhase::Preparing
        {
            builds.push(rollout.build.id);
            later.extend(rollout.waves.iter().flatten());
        }
        (builds, later)
    }

    pub(super) fn rollout_deadline(&mut self) {
        let now_ms = self.now_ms;
        let Some(rollout) = self.rollout.as_ref().filter(|r| r.deadline_ms <= now_ms) else {
            return;
        };
        let late: Vec<String> = rollout.waiting.iter().cloned().collect();
        let (doing, timeout_ms) = match &rollout.phase {
            RolloutPhase::Preparing => ("prepare", self.plan.prepare_timeout_ms),
            RolloutPhase::Activating => ("activate", self.plan.activate_timeout_ms),
            RolloutPhase::Reverting { reason, .. } => {
                let reason = format!("{reason}; not back yet: {}", late.join(", "));
                self.conclude(ReleaseOutcome::Reverted, Some(reason));
                return;
            }
        };
        for name in &late {
            self.record(name, AnswerKind::Missing, timeout_ms);
        }
        self.revert(format!(
            "no answer to {doing} within {timeout_ms} ms from {}",
            late.join(", ")
        ));
    }

    /// Reverts the release. Nodes that only prepared forget the build; those that were told to switch get the build
    /// before, which they still hold, under a number above this release's.
    fn revert(&mut self, reason: String) {
        let connected: BTreeSet<String> = self.links.values().cloned().collect();
        let timeout_ms = self.plan.prepare_timeout_ms + self.plan.activate_timeout_ms;
        let deadline_ms = self.now_ms + timeout_ms;
        let Some(rollout) = &self.rollout else {
            return;
        };
        let release = rollout.release;
        let back: BTreeSet<String> = rollout
            .switching
            .intersection(&connected)
            .cloned()
            .collect();
        let forget: Vec<String> = rollout
            .wave
            .difference(&rollout.switching)
            .cloned()
            .collect();
        let build = rollout.build.id;
        for name in forget {
            if let Some(node) = self.nodes.get_mut(&name) {
                node.forgot(build);
            }
            self.send(&name, FromSeed::Abandon { release });
        }
        if self.holds() && !back.is_empty() {
            // What they ran before is not what is active here, and it is not here to be given to them.
            let names = back.into_iter().collect::<Vec<_>>().join(", ");
            let reason = format!(
                "{reason}; the Seed does not know what its nodes ran before, so these stay on the new build: {names}"
            );
            self.conclude(ReleaseOutcome::Reverted, Some(reason));
            return;
        }
        if self.durable.active.is_none() || back.is_empty() {
            self.conclude(ReleaseOutcome::Reverted, Some(reason));
            return;
        }
        let durable = self.change();
        durable.renew_active();
        let release = durable.last();
        if let Some(rollout) = &mut self.rollout {
            rollout.phase = RolloutPhase::Reverting { release, reason };
            rollout.deadline_ms = deadline_ms;
            rollout.waiting = back.clone();
        }
        for name in back {
            self.start_active_task(&name);
        }
    }

    /// Stops waiting for a node that is back on the build before, or will not be for now.
    fn node_reverted(&mut self, name: &str, back: ReleaseId) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        let RolloutPhase::Reverting { release, reason } = &rollout.phase else {
            return;
        };
        if *release != back || !rollout.waiting.remove(name) || !rollout.waiting.is_empty() {
            return;
        }
        let reason = reason.clone();
        self.conclude(ReleaseOutcome::Reverted, Some(reason));
    }

    fn promote(&mut self) {
        let Some(rollout) = &self.rollout else {
            return;
        };
        let active = ActiveBuild {
            release: rollout.release,
            build: rollout.build.clone(),
        };
        let release = active.release;
        self.change().active = Some(active);
        self.end_hold(release);
        self.conclude(ReleaseOutcome::Promoted, None);
    }

    /// Records the end of the release, tells it, and looks after the nodes that came meanwhile.
    fn conclude(&mut self, outcome: ReleaseOutcome, reason: Option<String>) {
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        let answers = rollout.answers.into_values().collect();
        self.end_record(rollout.release, outcome, reason, answers);
        self.sweep();
    }

    /// Completes the record of a release, and tells it.
    pub(super) fn end_record(
        &mut self,
        release: ReleaseId,
        outcome: ReleaseOutcome,
        reason: Option<String>,
        answers: Vec<NodeAnswer>,
    ) {
        let now_ms = self.now_ms;
        let away = match outcome {
            ReleaseOutcome::Promoted => self.away(&answers),
            _ => Vec::new(),
        };
        let unreached = self.unreached(&away, &answers);
        let ended = self.change().end(release, outcome, reason, now_ms, answers);
        if let Some(record) = ended {
            (record.away, record.unreached) = (away, unreached);
            let record = record.clone();
            self.out
                .push(CoreEffect::Emit(ReleaseEvent::Finished(record)));
        }
    }

    /// Nodes of the fleet that have not switched.
    fn away(&self, answers: &[NodeAnswer]) -> Vec<AwayNode> {
        let switched = switched(answers);
        let away = self
            .nodes
            .iter()
            .filter(|(name, _)| !switched.contains(name));
        away.map(|(name, node)| AwayNode {
            node: name.clone(),
            role: node.hello.role,
        })
        .collect()
    }

    /// Roles of the `away` nodes, where no node of the role has switched.
    fn unreached(&self, away: &[AwayNode], answers: &[NodeAnswer]) -> Vec<Role> {
        let nodes = switched(answers).into_iter();
        let roles: BTreeSet<Role> = nodes
            .filter_map(|name| Some(self.nodes.get(name)?.hello.role))
            .collect();
        let unreached: BTreeSet<Role> = away.iter().map(|away| away.role).collect();
        unreached.difference(&roles).copied().collect()
    }
}

fn switched(answers: &[NodeAnswer]) -> BTreeSet<&String> {
    let switched = |answer: &&NodeAnswer| answer.answer == AnswerKind::Ack;
    let nodes = answers.iter().filter(switched);
    nodes.map(|answer| &answer.node).collect()
}
