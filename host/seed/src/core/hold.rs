//! The hold, for a node that knows more than its Seed. A Seed that was started from an older copy of its disk must not
//! lead the fleet back to what that copy says: it orders nothing by itself until an operator decides.

use super::{
    CoreEffect, EPOCH_AHEAD_MAX, OrderRefusal, RequestId, SEQUENCE_MAX, SeedCore,
    durable::{ActiveBuild, CheckedBuild},
};
use protoplex_wire::{
    ReleaseId,
    link::{FromSeed, Hello},
    status::{AnswerKind, Hold, NodeAnswer, ReleaseEvent, ReleaseOutcome},
};

impl SeedCore {
    /// Whether nothing may be ordered that no operator has asked for.
    pub(super) fn holds(&self) -> bool {
        self.durable.hold.is_some()
    }

    /// Refuses a release that no Seed with this disk, or a later copy of it, can have handed out. An epoch counts how
    /// often a Seed had to begin anew: a word that is further ahead than that can be is not believed. What counts is
    /// the distance alone: a disk on which an older version let one word raise the epoch to 2^53 goes on from there.
    pub(super) fn check_release(&self, release: ReleaseId) -> Result<(), String> {
        let most = self.durable.epoch.saturating_add(EPOCH_AHEAD_MAX);
        if release.sequence > SEQUENCE_MAX {
            return Err(format!("release {release} is no Seed's work"));
        }
        match release.epoch > most {
            true => Err(format!(
                "release {release} is over {EPOCH_AHEAD_MAX} epochs ahead of this Seed's last, {}; no Seed of this fleet \
                 has handed that out. If the node is right all the same, stop the Seed, write {} for `epoch` in \
                 state.json in its data folder, and start it: it will hold until `protoplex adopt`",
                self.durable.last(),
                release.epoch
            )),
            false => Ok(()),
        }
    }

    /// Whether a node has taken what this Seed has not ordered: a number above all of the Seed's, or one of them for
    /// another build. An epoch before the current one does not count: an operator has decided already.
    pub(super) fn is_ahead(&self, hello: &Hello) -> bool {
        let known = self.durable.build_of(hello.release);
        let is_another = known.zip(hello.release_build).is_some_and(|(a, b)| a != b);
        hello.release > self.durable.last()
            || (is_another && hello.release.epoch == self.durable.epoch)
    }

    /// Ends the hold after a release was promoted, if that was ordered in the knowledge of the hold, which its epoch
    /// shows.
    pub(super) fn end_hold(&mut self, release: ReleaseId) {
        let hold = self.durable.hold.as_ref();
        if hold.is_some_and(|hold| release.epoch > hold.release.epoch) {
            self.change().hold = None;
        }
    }

    /// Begins a hold because of what a node said.
    pub(super) fn begin_hold(&mut self, hello: &Hello) {
        let known = self.durable.last();
        let before = self.durable.hold.as_ref();
        if before.is_some_and(|hold| hold.release >= hello.release) {
            return;
        }
        let hold = Hold {
            node: hello.node.clone(),
            release: hello.release,
            build: hello.active,
            known: before.map_or(known, |hold| hold.known),
        };
        self.change().hold = Some(hold.clone());
        self.out.push(CoreEffect::Held(hold));
        if self.rollout.is_none() {
            self.abandon_tasks();
        }
    }

    /// Abandons the tasks of nodes that were on their way to what is active here: they stay where they are.
    fn abandon_tasks(&mut self) {
        let tasks = self.nodes.iter_mut().filter_map(|(name, node)| {
            let task = node.task.take()?;
            Some((name.clone(), task.release))
        });
        for (name, release) in tasks.collect::<Vec<_>>() {
            self.send(&name, FromSeed::Abandon { release });
        }
    }

    /// Raises the epoch above all that nodes have taken, for the first order after a hold begins: they would refuse a
    /// lower number.
    pub(super) fn rise_above_nodes(&mut self) {
        let Some(hold) = &self.durable.hold else {
            return;
        };
        let taken = self.nodes.values().map(|node| node.fence.epoch);
        let highest = taken.fold(hold.release.epoch, u64::max);
        if self.durable.epoch <= highest {
            self.change().epoch = highest.saturating_add(1);
        }
    }

    /// Makes what the nodes run the active build. They are given it anew, under a number of this Seed's.
    pub(super) fn adopt(&mut self, request: RequestId, build: CheckedBuild) {
        if let Err(refusal) = self.may_adopt(&build) {
            self.out.push(CoreEffect::Refused { request, refusal });
            return;
        }
        let release = self.begin_record(&build);
        let here = self.nodes.iter().filter(|(_, node)| node.link.is_some());
        let runs = here.filter(|(_, node)| node.hello.active == Some(build.id));
        let nodes: Vec<String> = runs.map(|(name, _)| name.clone()).collect();
        let answers = nodes.iter().map(|node| NodeAnswer {
            node: node.clone(),
            answer: AnswerKind::Ack,
            elapsed_ms: 0,
        });
        let answers = answers.collect();
        self.out.push(CoreEffect::Accepted { request, release });
        self.out.push(CoreEffect::Emit(ReleaseEvent::Started {
            release,
            build: build.id,
            nodes,
        }));
        self.change().active = Some(ActiveBuild { release, build });
        self.end_hold(release);
        self.end_record(release, ReleaseOutcome::Promoted, None, answers);
        for name in self.links.values().cloned().collect::<Vec<_>>() {
            self.catch_up(&name);
        }
    }

    fn may_adopt(&self, build: &CheckedBuild) -> Result<(), OrderRefusal> {
        if let Some(rollout) = &self.rollout {
            return Err(OrderRefusal::Busy {
                running: rollout.release,
            });
        }
        if !self.holds() {
            return Err(OrderRefusal::NotHeld);
        }
        let runs = |node: &super::fleet::FleetNode| {
            node.link.is_some() && node.hello.active == Some(build.id)
        };
        match self.nodes.values().any(runs) {
            true => Ok(()),
            false => Err(OrderRefusal::NotRunning(build.id)),
        }
    }
}
