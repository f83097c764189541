//! The Seed's orders: prepare, activate, abandon.

use super::{BuildMade, Releases, StepKind, fault, nack, rollout_step::RolloutStep};
use crate::{
    builds::{BlobSource, ReadyBuild},
    seed_voice::SeedVoice,
    store::NodeState,
    supervisor::Supervisor,
};
use protoplex_handler::BuildFault;
use protoplex_wire::{BuildId, ReleaseId, release::Stage, signature::Envelope};
use std::{cmp::Ordering, sync::Arc, time::Instant};

impl Releases {
    /// Gets a build ready: its files first, then the children that take orders.
    pub(crate) fn prepare(
        &mut self,
        release: ReleaseId,
        build: BuildId,
        envelope: Envelope,
        supervisor: &mut Supervisor,
        seed: &mut SeedVoice,
    ) {
        let since = Instant::now();
        if let Err(fault) = self.take(release, build, &envelope, supervisor) {
            return nack(seed, release, fault, since);
        }
        let step = RolloutStep::fetching(release, since);
        if let Some(ready) = self.ready.get(&build) {
            return self.order_prepare(step, ready, supervisor, seed);
        }
        self.step = Some(step);
        let (builder, made) = (Arc::clone(&self.builder), self.made.clone());
        self.tasks.spawn(async move {
            let result = builder.make(&envelope, BlobSource::DiskOrSeed).await;
            let _ = made.send(BuildMade { release, result }).await;
        });
    }

    /// Takes an order to prepare: from now on, older ones are refused.
    fn take(
        &mut self,
        release: ReleaseId,
        build: BuildId,
        envelope: &Envelope,
        supervisor: &Supervisor,
    ) -> Result<(), BuildFault> {
        self.check(release, build, supervisor)?;
        if envelope.build != build {
            let reason = "the envelope is for another build";
            return Err(fault(Stage::Signature, reason));
        }
        let taken = self.store.take(release, build);
        taken.map_err(|error| fault(Stage::Limit, format!("{error:#}")))
    }

    /// Refuses an order that is out of sequence, or that no child could do.
    fn check(
        &self,
        release: ReleaseId,
        build: BuildId,
        supervisor: &Supervisor,
    ) -> Result<(), BuildFault> {
        if let Some(reason) = out_of_sequence(self.store.state(), release, build) {
            return Err(fault(Stage::Protocol, reason));
        }
        match supervisor.order_futility() {
            Some(reason) => Err(fault(Stage::WarmUp, reason)),
            None => Ok(()),
        }
    }

    /// Goes on with a step whose build's files are ready now, or could not be made so.
    pub(crate) fn build_made(
        &mut self,
        made: BuildMade,
        supervisor: &mut Supervisor,
        seed: &mut SeedVoice,
    ) {
        let BuildMade { release, result } = made;
        let Some(step) = self.step.take_if(|step| step.is_fetching(release)) else {
            return;
        };
        match result {
            Ok(build) => self.order_prepare(step, Arc::new(build), supervisor, seed),
            Err(fault) => nack(seed, release, fault, step.since()),
        }
    }

    /// Orders every child that takes orders to prepare the build; the others get it when they have started.
    fn order_prepare(
        &mut self,
        step: RolloutStep,
        build: Arc<ReadyBuild>,
        supervisor: &mut Supervisor,
        seed: &mut SeedVoice,
    ) {
        let children = supervisor.taking_orders();
        let release = step.release();
        self.step = Some(step.preparing(Arc::clone(&build), &children));
        for child in children {
            supervisor.prepare(child, &build, release);
        }
        self.finish_step(supervisor, seed);
    }

    /// Switches the children to a build that was prepared.
    pub(crate) fn activate(
        &mut self,
        release: ReleaseId,
        build: BuildId,
        supervisor: &mut Supervisor,
        seed: &mut SeedVoice,
    ) {
        let since = Instant::now();
        if let Err(fault) = self.check(release, build, supervisor) {
            return nack(seed, release, fault, since);
        }
        let Some(ready) = self.ready.get(&build) else {
            let reason = format!("build {} was not prepared here", build.short());
            return nack(seed, release, fault(Stage::Protocol, reason), since);
        };
        let children = supervisor.taking_orders();
        let step = RolloutStep::activating(release, Arc::clone(&ready), &children, since);
        self.step = Some(step);
        for child in children {
            supervisor.activate(child, &ready, release);
        }
        self.finish_step(supervisor, seed);
    }

    /// Forgets a build that was prepared, here or in a child, and will not be activated.
    pub(crate) fn abandon(&mut self, release: ReleaseId, supervisor: &mut Supervisor) {
        let is_abandoned =
            |step: &mut RolloutStep| step.release() == release && step.kind() == StepKind::Prepare;
        if let Some(step) = self.step.take_if(is_abandoned)
            && let Some(build) = step.build()
        {
            self.forget(release, build.id, supervisor);
        }
        // It may have been prepared here, and not elsewhere.
        self.sweep_ready();
        self.sweep_children(supervisor);
    }
}

/// Why an order is refused for ever: it is older than one that was taken before, or names another build under the same
/// number. Then two Seeds have handed it out, or one that was started from an older copy of its disk.
fn out_of_sequence(state: &NodeState, release: ReleaseId, build: BuildId) -> Option<String> {
    let taken = state.release;
    let other = state.release_build.filter(|other| *other != build);
    match (release.cmp(&taken), other) {
        (Ordering::Less, _) => Some(format!(
            "release {release} is older than {taken}, which this node has taken"
        )),
        (Ordering::Equal, Some(other)) => Some(format!(
            "release {release} is build {} here, and cannot be build {} as well",
            other.short(),
            build.short()
        )),
        _ => None,
    }
}
