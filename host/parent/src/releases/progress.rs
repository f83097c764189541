//! What children do with a build, and the answer to the Seed once they have done it.

use super::{
    ChildReport, Releases, StepKind, fault, millis, nack,
    rollout_step::{DoneStep, RolloutStep},
};
use crate::{seed_voice::SeedVoice, supervisor::Supervisor};
use protoplex_control::messages::ToChild;
use protoplex_handler::BuildFault;
use protoplex_wire::{ReleaseId, link::FromNode, release::Stage};

impl Releases {
    /// Gives a child that has started the active build, and before it serves by that the others that its siblings answer
    /// for. The child takes part in the step that is under way.
    pub(crate) fn child_started(&mut self, child: usize, supervisor: &mut Supervisor) {
        if let Some(active) = &self.active {
            let release = self.store.state().release;
            supervisor.prepare(child, active, release);
            for other in self.ready.other_than(active.id) {
                supervisor.prepare(child, &other, release);
            }
            let build = active.id;
            supervisor.send(child, &ToChild::Activate { release, build }, &[]);
        }
        if let Some(step) = &mut self.step
            && let Some(build) = step.child_joined(child)
        {
            match step.kind() {
                StepKind::Prepare => supervisor.prepare(child, &build, step.release()),
                StepKind::Activate => supervisor.activate(child, &build, step.release()),
            }
        }
    }

    /// Notes what a child did with a build. What a new child says of the active one counts for no step.
    pub(crate) fn child_reported(
        &mut self,
        report: ChildReport,
        supervisor: &mut Supervisor,
        seed: &mut SeedVoice,
    ) {
        let ChildReport {
            child,
            release,
            build,
            result,
        } = report;
        match result {
            Ok(kind) => {
                if let Some(step) = &mut self.step
                    && step.child_did(child, kind, release, build)
                {
                    self.finish_step(supervisor, seed);
                }
            }
            Err(fault) => {
                let Some(step) = self.step.take_if(|step| step.is_about(release, build)) else {
                    let BuildFault { stage, reason } = fault;
                    tracing::error!(child, build = build.short(), %stage, reason, "a child cannot load a build");
                    return;
                };
                match step.kind() {
                    StepKind::Prepare => self.forget(release, build, supervisor),
                    StepKind::Activate => self.reactivate(release, supervisor),
                }
                nack(seed, release, fault, step.since());
            }
        }
    }

    /// Waits no longer for a child that is gone: its successor is given what is then active. Where none comes up, the
    /// order has failed.
    pub(crate) fn child_gone(
        &mut self,
        child: usize,
        supervisor: &mut Supervisor,
        seed: &mut SeedVoice,
    ) {
        let Some(step) = &mut self.step else {
            return;
        };
        step.child_gone(child);
        let futility = supervisor.order_futility();
        if let Some(reason) = futility.filter(|_| !step.is_confirmed()) {
            let (release, since) = (step.release(), step.since());
            self.step = None;
            return nack(seed, release, fault(Stage::WarmUp, reason), since);
        }
        self.finish_step(supervisor, seed);
    }

    /// Says PREPARED or ACK once nobody is waited for, and what is said is on disk.
    pub(super) fn finish_step(&mut self, supervisor: &mut Supervisor, seed: &mut SeedVoice) {
        let step = self.step.take_if(|step| step.is_done());
        let Some(step) = step.and_then(RolloutStep::done) else {
            return;
        };
        match step.kind {
            StepKind::Prepare => {
                self.ready.insert(&step.build);
                seed.tell(FromNode::Prepared {
                    release: step.release,
                    elapsed_ms: millis(step.since),
                });
            }
            StepKind::Activate => self.finish_activation(step, supervisor, seed),
        }
    }

    fn finish_activation(
        &mut self,
        step: DoneStep,
        supervisor: &mut Supervisor,
        seed: &mut SeedVoice,
    ) {
        let (release, build, elapsed_ms) = (step.release, step.build, millis(step.since));
        if let Err(error) = self.store.activate(release, build.envelope.clone()) {
            self.reactivate(release, supervisor);
            let fault = fault(Stage::Limit, format!("{error:#}"));
            return nack(seed, release, fault, step.since);
        }
        tracing::info!(%release, build = build.id.short(), elapsed_ms, "the release is active");
        self.active = Some(build);
        self.sweep(supervisor);
        seed.tell(FromNode::Ack {
            release,
            elapsed_ms,
        });
    }

    /// Takes all children back to the build that is on record.
    fn reactivate(&self, release: ReleaseId, supervisor: &mut Supervisor) {
        if let Some(build) = self.active() {
            supervisor.send_all(&ToChild::Activate { release, build });
        }
    }
}
