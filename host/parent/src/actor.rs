//! The one task that owns a node's state. It takes events in turn, and passes each to the parts that it concerns.

use super::{
    Lifecycle,
    directory_keeper::DirectoryKeeper,
    leaving::Leaving,
    link::LinkEvent,
    meta::Question,
    metrics::Scraper,
    node_status::{NodeProfile, NodeView},
    releases::{BuildMade, ChildReport, Releases, StepKind},
    seed_voice::SeedVoice,
    supervisor::{ChildEvent, ChildEventKind, Supervisor},
    turn_away::Newcomers,
};
use protoplex_control::messages::{FromChild, ToChild};
use protoplex_handler::BuildFault;
use protoplex_wire::link::{FromNode, FromSeed};
use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

#[cfg(test)]
mod tests;

/// Between two looks at restarts, silence and deadlines.
const TICK: Duration = Duration::from_millis(50);
/// Between two looks at restarts, silence and deadlines of a node whose children all serve, and of which nobody waits for
/// anything: it hardly wakes, and a child that falls silent is noticed a moment after the second that it has.
const QUIET_TICK: Duration = Duration::from_millis(200);

/// Parts of a node that its start has made.
pub(super) struct ActorParts {
    pub(super) profile: NodeProfile,
    pub(super) supervisor: Supervisor,
    pub(super) releases: Releases,
    pub(super) directory: DirectoryKeeper,
    pub(super) leaving: Leaving,
    pub(super) newcomers: Newcomers,
    /// What `/readyz` answers.
    pub(super) ready: Arc<AtomicBool>,
}

/// Where events come from.
pub(super) struct EventSources {
    pub(super) children: mpsc::Receiver<ChildEvent>,
    pub(super) builder: mpsc::Receiver<BuildMade>,
    pub(super) link: mpsc::Receiver<LinkEvent>,
    pub(super) meta: mpsc::Receiver<Question>,
}

/// The parts of a node. What one of them needs of another is passed to its methods.
pub(super) struct Actor {
    profile: NodeProfile,
    supervisor: Supervisor,
    releases: Releases,
    directory: DirectoryKeeper,
    leaving: Leaving,
    newcomers: Newcomers,
    seed: SeedVoice,
    scraper: Scraper,
    /// What `/readyz` answers.
    ready: Arc<AtomicBool>,
}

impl Actor {
    /// A node without a link to the Seed and without a running child.
    pub(super) fn new(parts: ActorParts) -> Self {
        Self {
            profile: parts.profile,
            supervisor: parts.supervisor,
            releases: parts.releases,
            directory: parts.directory,
            leaving: parts.leaving,
            newcomers: parts.newcomers,
            seed: SeedVoice::default(),
            scraper: Scraper::default(),
            ready: parts.ready,
        }
    }

    /// Runs the node until it has drained, or has to end at once. `on_ready` is called when a build answers, or, where
    /// none is on disk, when a child has come up.
    ///
    /// # Errors
    /// No child comes up, and none ever has.
    pub(super) async fn run(
        mut self,
        mut events: EventSources,
        lifecycle: Lifecycle,
        on_ready: impl FnOnce(),
    ) -> anyhow::Result<()> {
        self.releases.load_from_disk().await;
        let mut on_ready = Some(on_ready);
        let mut ticked = tokio::time::Instant::now();
        loop {
            if !self.supervisor.has_come_up()
                && let Some(reason) = self.supervisor.futility()
            {
                self.supervisor.kill_all();
                anyhow::bail!(reason);
            }
            if self.is_ready() {
                on_ready.take().into_iter().for_each(|ready| ready());
            }
            tokio::select! {
                Some(event) = events.children.recv() => self.child_event(event),
                Some(event) = events.link.recv() => self.link_event(event),
                Some(made) = events.builder.recv() => self.releases.build_made(made, &mut self.supervisor, &mut self.seed),
                Some(question) = events.meta.recv() => self.question(question),
                () = tokio::time::sleep_until(ticked + self.tick_period()) => {
                    ticked = tokio::time::Instant::now();
                    self.tick();
                }
                () = lifecycle.reload.notified() => self.supervisor.reload_files(),
                () = lifecycle.drain.cancelled(), if !self.leaving.has_begun() => self.leave(),
                () = lifecycle.stop_now.cancelled() => {
                    tracing::warn!("the node ends at once");
                    self.supervisor.kill_all();
                    return Ok(());
                }
            }
            if self
                .leaving
                .begins_to_drain(Instant::now(), self.supervisor.awake())
            {
                self.supervisor.send_all(&ToChild::Drain);
            }
            if self.leaving.is_over(&self.supervisor) {
                self.supervisor.kill_all();
                tracing::info!("the node has drained");
                return Ok(());
            }
        }
    }

    fn tick_period(&self) -> Duration {
        let is_quiet =
            self.supervisor.all_serve() && !self.leaving.has_begun() && !self.scraper.is_busy();
        if is_quiet { QUIET_TICK } else { TICK }
    }

    /// Whether a build answers, or there is none that could.
    fn is_ready(&self) -> bool {
        let has_none = self.releases.active().is_none() && self.supervisor.has_come_up();
        self.ready.load(Relaxed) || has_none
    }

    fn view(&self) -> NodeView<'_> {
        NodeView {
            profile: &self.profile,
            supervisor: &self.supervisor,
            releases: &self.releases,
            directory: &self.directory,
            leaving: &self.leaving,
            seed: &self.seed,
            newcomers: &self.newcomers,
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let awake = self.supervisor.advance_clock(now);
        let is_draining = self.leaving.is_draining();
        // A child that drains has a deadline of its own, and says nothing until it is done.
        if !is_draining && self.supervisor.watch(now) {
            self.service_changed();
        }
        let release = self.releases.state().release;
        self.scraper.tick(&self.supervisor, release);
        let futility = self.supervisor.futility().filter(|_| !is_draining);
        self.newcomers.tick(futility, awake);
        if self.leaving.shuts_sockets(now) {
            self.newcomers.shut();
        }
    }

    /// Some child may have begun to serve, or ceased to: readiness, the Seed and the siblings follow.
    fn service_changed(&mut self) {
        let ready = self.supervisor.any_serves() && !self.leaving.has_begun();
        self.ready.store(ready, Relaxed);
        let heartbeat = self.view().heartbeat();
        self.seed.tell_serving(heartbeat);
        if !self.leaving.is_draining() {
            self.supervisor.share_sockets();
        }
    }

    fn leave(&mut self) {
        self.ready.store(false, Relaxed);
        self.leaving.begin(&self.supervisor, &mut self.seed);
    }

    fn question(&mut self, question: Question) {
        match question {
            Question::Status(answer) => drop(answer.send(self.view().status())),
            Question::Metrics(answer) => {
                let release = self.releases.state().release;
                self.scraper.ask(answer, &mut self.supervisor, release);
            }
            Question::Envelope(build, answer) => {
                drop(answer.send(self.releases.envelope(build).cloned()));
            }
        }
    }

    fn child_event(&mut self, event: ChildEvent) {
        let ChildEvent {
            child,
            generation,
            kind,
        } = event;
        if !self.supervisor.is_current(child, generation) {
            return;
        }
        match kind {
            ChildEventKind::Said(message, files) => {
                if self.supervisor.heard(child) {
                    self.service_changed();
                }
                self.child_said(child, message, files);
            }
            ChildEventKind::Ended(status) => self.child_ended(child, status),
        }
    }

    fn child_said(&mut self, child: usize, message: FromChild, files: Vec<OwnedFd>) {
        match message {
            FromChild::Started => self.child_started(child),
            FromChild::Prepared { release, build } => self.child_reported(ChildReport {
                child,
                release,
                build,
                result: Ok(StepKind::Prepare),
            }),
            FromChild::Failed {
                release,
                build,
                stage,
                reason,
            } => self.child_reported(ChildReport {
                child,
                release,
                build,
                result: Err(BuildFault { stage, reason }),
            }),
            FromChild::Activated { release, build } => {
                if self.supervisor.activated(child) {
                    self.service_changed();
                }
                self.child_reported(ChildReport {
                    child,
                    release,
                    build,
                    result: Ok(StepKind::Activate),
                });
            }
            FromChild::Directory { version } => {
                self.supervisor.set_directory(child, version);
                self.directory.acknowledge(&self.supervisor, &mut self.seed);
            }
            FromChild::DirectoryWanted => self.directory.give(child, &mut self.supervisor),
            FromChild::Beat(beat) => self.supervisor.set_beat(child, beat),
            FromChild::Metrics => {
                let release = self.releases.state().release;
                self.scraper
                    .child_answered(child, files, &mut self.supervisor, release);
            }
            FromChild::Drained { cut } => tracing::info!(child, cut, "a child drained"),
        }
    }

    fn child_started(&mut self, child: usize) {
        self.supervisor.started(child);
        self.directory.give(child, &mut self.supervisor);
        self.supervisor.give_tickets(child);
        self.releases.child_started(child, &mut self.supervisor);
        if self.releases.active().is_none() {
            self.supervisor.accept_without_build(child);
        }
    }

    fn child_reported(&mut self, report: ChildReport) {
        self.releases
            .child_reported(report, &mut self.supervisor, &mut self.seed);
    }

    fn child_ended(&mut self, child: usize, status: String) {
        if !self.leaving.is_draining() {
            tracing::error!(child, status, "a child ended");
        }
        self.supervisor.ended(child, status);
        self.service_changed();
        self.releases
            .child_gone(child, &mut self.supervisor, &mut self.seed);
        self.directory.acknowledge(&self.supervisor, &mut self.seed);
        self.tick();
    }

    fn link_event(&mut self, event: LinkEvent) {
        match event {
            // The link may have ended meanwhile.
            LinkEvent::WhoAreWe(answer) => drop(answer.send(self.view().hello())),
            LinkEvent::Connected(link) => {
                self.seed.connected(link);
                self.directory.link_connected();
            }
            LinkEvent::Lost => {
                self.seed.lost();
                self.leaving.seed_lost();
            }
            LinkEvent::Beat => {
                let heartbeat = self.view().heartbeat();
                self.seed.tell(FromNode::Heartbeat(heartbeat));
            }
            LinkEvent::Said(message) => self.seed_said(message),
        }
    }

    fn seed_said(&mut self, message: FromSeed) {
        let (supervisor, seed) = (&mut self.supervisor, &mut self.seed);
        match message {
            FromSeed::Welcome { hop_key } => self.directory.take_hop_key(hop_key, supervisor, seed),
            FromSeed::Directory(frame) => self.directory.take_frame(frame, supervisor, seed),
            FromSeed::DirectoryDelta(delta) => self.directory.take_delta(delta, supervisor, seed),
            FromSeed::Left => self.leaving.seed_let_go(),
            FromSeed::Prepare {
                release,
                build,
                envelope,
            } => {
                self.releases
                    .prepare(release, build, envelope, supervisor, seed);
            }
            FromSeed::Activate { release, build } => {
                self.releases.activate(release, build, supervisor, seed);
            }
            FromSeed::Abandon { release } => self.releases.abandon(release, supervisor),
        }
    }
}
