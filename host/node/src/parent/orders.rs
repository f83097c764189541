//! Release orders of the Seed: prepare, activate, abandon. Every one of them is answered.

use super::{actor::Actor, builds::ReadyBuild};
use crate::control::ToChild;
use protoplex_handler::BuildFault;
use protoplex_wire::{
    BuildId, Digest, ReleaseId, link::FromNode, release::Stage, signature::Envelope,
};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Instant,
};
use tokio::sync::mpsc;

/// A build whose files are ready, or are not.
pub(super) struct Made {
    release: ReleaseId,
    result: Result<ReadyBuild, BuildFault>,
}

/// What is under way.
pub(super) struct Orders {
    made: mpsc::Sender<Made>,
    /// Builds that could be switched to, by id.
    ready: BTreeMap<BuildId, Arc<ReadyBuild>>,
    step: Option<Step>,
}

/// Waiting for children.
struct Step {
    release: ReleaseId,
    /// `None` until its files are ready.
    build: Option<Arc<ReadyBuild>>,
    waiting: HashSet<usize>,
    /// A child has done it. Without one, nothing is known of the build.
    confirmed: bool,
    activating: bool,
    since: Instant,
}

impl Step {
    fn is_about(&self, release: ReleaseId, build: BuildId) -> bool {
        self.release == release && self.build.as_ref().is_some_and(|ready| ready.id == build)
    }
}

impl Orders {
    pub(super) fn new() -> (Self, mpsc::Receiver<Made>) {
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

    /// Components of all builds that could be switched to: what children keep native code of.
    fn components(&self) -> HashSet<Digest> {
        self.ready
            .values()
            .flat_map(|build| build.native.keys().copied())
            .collect()
    }

    /// Builds that another node may name beside the active one: those before it, and one that is prepared.
    pub(super) fn beside(&self, active: BuildId) -> Vec<Arc<ReadyBuild>> {
        let others = self.ready.values().filter(|build| build.id != active);
        others.cloned().collect()
    }

    pub(super) fn hold(&mut self, build: &Arc<ReadyBuild>) {
        self.ready.insert(build.id, Arc::clone(build));
    }
}

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
        tokio::spawn(async move {
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

    /// A child that is gone answers nothing; its successor is given what is then active.
    pub(super) async fn child_gone(&mut self, index: usize) {
        if let Some(step) = &mut self.orders.step {
            step.waiting.remove(&index);
            self.step_on().await;
        }
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

    /// Makes all children forget a prepared build, unless it is held for another reason.
    async fn forget(&mut self, release: ReleaseId, build: BuildId) {
        if self.is_held(&build) {
            return;
        }
        self.orders.ready.remove(&build);
        let components = self.orders.components();
        for index in 0..self.seats.len() {
            self.seats[index].builds.remove(&build);
            self.seats[index]
                .native
                .retain(|component| components.contains(component));
            self.send(index, &ToChild::Abandon { release, build }, &[]);
        }
    }

    fn is_held(&self, build: &BuildId) -> bool {
        self.store
            .state()
            .held
            .iter()
            .any(|envelope| envelope.build == *build)
    }

    fn sweep_ready(&mut self) {
        let held: HashSet<BuildId> = self
            .store
            .state()
            .held
            .iter()
            .map(|envelope| envelope.build)
            .collect();
        self.orders.ready.retain(|id, _| held.contains(id));
    }

    /// Children forget what could not be switched to: what failed on another node, and, where a child started late, what
    /// its siblings were switched away from.
    async fn sweep_children(&mut self) {
        let release = self.store.state().release;
        let under_way = self
            .orders
            .step
            .as_ref()
            .and_then(|step| step.build.clone());
        let under_way = under_way.map(|build| build.id);
        let components = self.orders.components();
        for index in 0..self.seats.len() {
            let ready = &self.orders.ready;
            let seat = &mut self.seats[index];
            if under_way.is_none() {
                seat.native
                    .retain(|component| components.contains(component));
            }
            let gone = seat
                .builds
                .extract_if(|id| !ready.contains_key(id) && Some(*id) != under_way);
            for build in gone.collect::<Vec<_>>() {
                self.send(index, &ToChild::Abandon { release, build }, &[]);
            }
        }
    }

    /// After a switch: builds, blobs and code that no held build uses go.
    async fn sweep(&mut self) {
        self.sweep_ready();
        self.sweep_children().await;
        // Where a manifest cannot be read, it is not known what its build needs.
        if let Some(used) = self.store.used() {
            self.store.sweep(&used);
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channel::sealed_memfd,
        control::ChildConfig,
        parent::{actor::Site, builds::Builder, native::NativeCache, store::Store},
    };
    use protoplex_wire::{manifest::Role, status::Addresses};
    use std::path::Path;

    /// A node whose only child does not run, and without a link: what it does with an order shows in what it keeps.
    fn actor(dir: &Path) -> Actor {
        let config = ChildConfig {
            node: "node".into(),
            role: Role::Proxy,
            index: 0,
            children: 1,
            threads: 1,
            control_fd: -1,
            http_fds: Vec::new(),
            https_fds: Vec::new(),
            ca: dir.into(),
            cert: dir.into(),
            key: dir.into(),
            tls_cert: dir.into(),
            tls_key: dir.into(),
            instances_max: 0,
            live_secrets: None,
            drain_timeout_ms: 0,
            region: String::new(),
            relay_fds: Vec::new(),
            internal_fds: Vec::new(),
            ingress: Default::default(),
        };
        let builder = Builder {
            dir: dir.into(),
            native: NativeCache::open(&dir.join("native"), 0).unwrap(),
            trusted: Vec::new(),
            seed: None,
        };
        let store = Store::open(dir).unwrap();
        let site = Site {
            addresses: Addresses::default(),
            child_addresses: Vec::new(),
            capacity: 0,
            listening: Vec::new(),
        };
        let made = Actor::new(config, site, store, builder, Arc::default());
        made.unwrap().0
    }

    fn ready_build() -> Arc<ReadyBuild> {
        let text = br#"{"format":1,"handlers":{},"name":"empty","routes":[]}"#;
        let id = BuildId::of(text);
        let file = || sealed_memfd("test", |_| Ok(())).unwrap();
        let (key_id, sig) = (String::new(), String::new());
        Arc::new(ReadyBuild {
            id,
            envelope: Envelope {
                build: id,
                key_id,
                sig,
            },
            manifest_fd: file(),
            pack_fd: file(),
            native: BTreeMap::new(),
        })
    }

    #[tokio::test]
    async fn what_was_prepared_for_a_release_that_failed_elsewhere_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (mut actor, build) = (actor(dir.path()), ready_build());
        let release = ReleaseId {
            epoch: 1,
            sequence: 1,
        };
        actor.orders.hold(&build);
        actor.seats[0].builds.insert(build.id);
        actor.abandon(release).await;
        assert!(actor.orders.ready.is_empty());
        assert!(actor.seats[0].builds.is_empty());
        // Not so what is being prepared just now.
        actor.seats[0].builds.insert(build.id);
        actor.orders.step = Some(Step {
            release: ReleaseId {
                sequence: 2,
                ..release
            },
            build: Some(Arc::clone(&build)),
            waiting: [0].into(),
            confirmed: false,
            activating: false,
            since: Instant::now(),
        });
        actor.abandon(release).await;
        assert!(actor.seats[0].builds.contains(&build.id));
    }

    /// Guarantee 10, whatever Seed sends it.
    #[tokio::test]
    async fn an_order_below_one_that_was_taken_is_refused_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let build = ready_build();
        let number = |epoch, sequence| ReleaseId { epoch, sequence };
        actor(dir.path())
            .store
            .take(number(2, 5), build.id)
            .unwrap();
        // Over a restart, too.
        let mut actor = actor(dir.path());
        actor.orders.hold(&build);
        for older in [number(2, 4), number(1, 9)] {
            actor.prepare(older, build.id, build.envelope.clone()).await;
            actor.activate(older, build.id).await;
            assert!(actor.orders.step.is_none(), "{older}");
            assert_eq!(actor.store.state().release, number(2, 5), "{older}");
        }
        for newer in [number(2, 5), number(2, 6), number(3, 1)] {
            actor.prepare(newer, build.id, build.envelope.clone()).await;
            assert_eq!(actor.store.state().release, newer);
            actor.activate(newer, build.id).await;
            let step = actor.orders.step.as_ref().unwrap();
            assert!(step.activating && step.release == newer, "{newer}");
        }
    }

    /// A Seed that was started from an older copy of its disk hands out numbers a second time.
    #[tokio::test]
    async fn another_build_under_a_number_that_was_taken_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut actor, build) = (actor(dir.path()), ready_build());
        let release = ReleaseId {
            epoch: 1,
            sequence: 7,
        };
        actor.store.take(release, BuildId::of(b"another")).unwrap();
        actor.orders.hold(&build);
        actor
            .prepare(release, build.id, build.envelope.clone())
            .await;
        actor.activate(release, build.id).await;
        assert!(actor.orders.step.is_none());
        let taken = actor.store.state().release_build;
        assert_eq!(taken, Some(BuildId::of(b"another")));
        assert_eq!(actor.hello().release_build, taken, "the Seed hears of it");
    }
}
