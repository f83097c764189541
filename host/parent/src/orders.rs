//! Release orders of the Seed: prepare, activate, abandon. Every one of them is answered.

mod forget;
mod step;
#[cfg(test)]
mod tests;

use super::{actor::Actor, builds::ReadyBuild};
use protoplex_control::messages::ToChild;
use protoplex_handler::BuildFault;
use protoplex_wire::{BuildId, ReleaseId, link::FromNode, release::Stage, signature::Envelope};
use std::{cmp::Ordering, collections::HashSet, sync::Arc, time::Instant};
use step::Step;
pub(super) use step::{Made, Orders};

impl Actor {
    /// Refuses an order that is older than one that was taken before, for ever, and one that names another build under
    /// the same number: two Seeds have handed it out, or one that was started from an older copy of its disk.
    async fn fenced(&mut self, release: ReleaseId, build: BuildId) -> bool {
        let state = self.store.state();
        let held = state.release;
        let other = state.release_build.filter(|other| *other != build);
        let reason = match (release.cmp(&held), other) {
            (Ordering::Less, _) => {
                format!("release {release} is older than {held}, which this node has taken")
            }
            (Ordering::Equal, Some(other)) => format!(
                "release {release} is build {} here, and cannot be build {} as well",
                other.short(),
                build.short()
            ),
            _ => return false,
        };
        self.nack(release, Stage::Protocol, reason, Instant::now())
            .await;
        true
    }

    async fn nack(&mut self, release: ReleaseId, stage: Stage, reason: String, since: Instant) {
        tracing::error!(%release, %stage, reason, "a release is refused");
        let elapsed_ms = millis(since);
        self.tell_seed(FromNode::Nack {
            release,
            stage,
            reason,
            elapsed_ms,
        });
    }

    pub(super) async fn prepare(&mut self, release: ReleaseId, build: BuildId, envelope: Envelope) {
        if self.fenced(release, build).await {
            return;
        }
        let since = Instant::now();
        if let Some(reason) = self.nobody_can() {
            return self.nack(release, Stage::WarmUp, reason, since).await;
        }
        if envelope.build != build {
            return self
                .nack(
                    release,
                    Stage::Signature,
                    "the envelope is for another build".into(),
                    since,
                )
                .await;
        }
        if let Err(error) = self.store.take(release, build) {
            return self
                .nack(release, Stage::Limit, format!("{error:#}"), since)
                .await;
        }
        let ready = self.orders.ready.get(&build).cloned();
        self.orders.step = Some(Step {
            release,
            build: ready.clone(),
            waiting: HashSet::new(),
            confirmed: false,
            activating: false,
            since,
        });
        if let Some(ready) = ready {
            return self.give_all(ready).await;
        }
        let (builder, made) = (Arc::clone(&self.builder), self.orders.made.clone());
        self.tasks.spawn(async move {
            let result = builder.make(&envelope, true).await;
            let _ = made.send(Made { release, result }).await;
        });
    }

    pub(super) async fn build_made(&mut self, made: Made) {
        let Some(step) = self
            .orders
            .step
            .as_mut()
            .filter(|step| step.release == made.release && step.build.is_none())
        else {
            return;
        };
        match made.result {
            Ok(build) => {
                let build = Arc::new(build);
                step.build = Some(Arc::clone(&build));
                self.give_all(build).await;
            }
            Err(fault) => {
                let since = step.since;
                self.orders.step = None;
                self.nack(made.release, fault.stage, fault.reason, since)
                    .await;
            }
        }
    }

    /// Gives the build to every serving child; others get it when they have started.
    async fn give_all(&mut self, build: Arc<ReadyBuild>) {
        let children = self.takers();
        let Some(step) = &mut self.orders.step else {
            return;
        };
        step.waiting = children.iter().copied().collect();
        let release = step.release;
        for index in children {
            self.order(index, &build, release, false).await;
        }
        self.step_on().await;
    }

    /// A child prepared or activated a build. What a new child says of the active one counts for no step.
    pub(super) async fn child_did(
        &mut self,
        index: usize,
        release: ReleaseId,
        build: BuildId,
        activated: bool,
    ) {
        if let Some(step) = &mut self.orders.step
            && step.is_about(release, build)
            && step.activating == activated
        {
            step.waiting.remove(&index);
            step.confirmed = true;
            self.step_on().await;
        }
    }

    /// A child that started in the middle of a step takes part in it.
    pub(super) async fn join_step(&mut self, index: usize) {
        let Some(step) = &mut self.orders.step else {
            return;
        };
        let (release, activating) = (step.release, step.activating);
        if let Some(build) = step.build.clone() {
            step.waiting.insert(index);
            self.order(index, &build, release, activating).await;
        }
    }

    async fn order(
        &mut self,
        index: usize,
        build: &Arc<ReadyBuild>,
        release: ReleaseId,
        activating: bool,
    ) {
        if !activating || !self.seats[index].builds.contains(&build.id) {
            self.give(index, build, release).await;
        }
        if activating {
            let build = build.id;
            self.send(index, &ToChild::Activate { release, build }, &[]);
        }
    }

    fn takers(&self) -> Vec<usize> {
        (0..self.seats.len())
            .filter(|&index| self.seats[index].takes_orders())
            .collect()
    }

    /// Why no child takes an order now or soon, where that is so.
    fn nobody_can(&self) -> Option<String> {
        self.futility().filter(|_| self.takers().is_empty())
    }

    /// A child that is gone answers nothing; its successor is given what is then active. Where none comes up, the order
    /// has failed.
    pub(super) async fn child_gone(&mut self, index: usize) {
        let failed = self.nobody_can();
        let Some(step) = &mut self.orders.step else {
            return;
        };
        step.waiting.remove(&index);
        if let Some(reason) = failed.filter(|_| !step.confirmed) {
            let (release, since) = (step.release, step.since);
            self.orders.step = None;
            return self.nack(release, Stage::WarmUp, reason, since).await;
        }
        self.step_on().await;
    }

    pub(super) async fn child_failed(
        &mut self,
        index: usize,
        release: ReleaseId,
        build: BuildId,
        BuildFault { stage, reason }: BuildFault,
    ) {
        let step = &mut self.orders.step;
        let Some(step) = step.take_if(|step| step.is_about(release, build)) else {
            tracing::error!(child = index, build = build.short(), %stage, reason, "a child cannot load a build");
            return;
        };
        if step.activating {
            self.reactivate(release).await;
        } else {
            self.forget(release, build).await;
        }
        self.nack(release, stage, reason, step.since).await;
    }

    /// Says PREPARED or ACK once nobody is waited for, and what is said is on disk.
    async fn step_on(&mut self) {
        let Some(step) = self
            .orders
            .step
            .take_if(|step| step.confirmed && step.waiting.is_empty())
        else {
            return;
        };
        let Some(build) = step.build else { return };
        let (release, elapsed_ms) = (step.release, millis(step.since));
        if !step.activating {
            self.orders.hold(&build);
            return self.tell_seed(FromNode::Prepared {
                release,
                elapsed_ms,
            });
        }
        if let Err(error) = self.store.activate(release, build.envelope.clone()) {
            self.reactivate(release).await;
            return self
                .nack(release, Stage::Limit, format!("{error:#}"), step.since)
                .await;
        }
        tracing::info!(%release, build = build.id.short(), elapsed_ms, "the release is active");
        self.active = Some(build);
        self.sweep().await;
        self.tell_seed(FromNode::Ack {
            release,
            elapsed_ms,
        });
    }

    pub(super) async fn activate(&mut self, release: ReleaseId, build: BuildId) {
        if self.fenced(release, build).await {
            return;
        }
        let since = Instant::now();
        if let Some(reason) = self.nobody_can() {
            return self.nack(release, Stage::WarmUp, reason, since).await;
        }
        let Some(ready) = self.orders.ready.get(&build).cloned() else {
            let reason = format!("build {} was not prepared here", build.short());
            return self.nack(release, Stage::Protocol, reason, since).await;
        };
        let children = self.takers();
        let waiting = children.iter().copied().collect();
        self.orders.step = Some(Step {
            release,
            build: Some(Arc::clone(&ready)),
            waiting,
            confirmed: false,
            activating: true,
            since,
        });
        for index in children {
            self.order(index, &ready, release, true).await;
        }
        self.step_on().await;
    }

    /// Takes all children back to the build that is on record.
    async fn reactivate(&mut self, release: ReleaseId) {
        let Some(active) = self.active.clone() else {
            return;
        };
        for index in 0..self.seats.len() {
            self.send(
                index,
                &ToChild::Activate {
                    release,
                    build: active.id,
                },
                &[],
            );
        }
    }

    pub(super) async fn abandon(&mut self, release: ReleaseId) {
        if let Some(step) = self
            .orders
            .step
            .take_if(|step| step.release == release && !step.activating)
            && let Some(build) = step.build
        {
            self.forget(release, build.id).await;
        }
        // It may have been prepared here, and not elsewhere.
        self.sweep_ready();
        self.sweep_children().await;
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
