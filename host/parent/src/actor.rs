//! The one task that owns a node's state. Release orders are in `orders`, children's lives here.

use super::{
    Lifecycle,
    builds::{Builder, ReadyBuild},
    children::{Adoption, Phase, Seat, Silence, adoptions, hasten},
    directory::Kept,
    link::LinkEvent,
    logs::Logs,
    meta::Question,
    metrics::Scrape,
    orders::{Made, Orders},
    process::{self, ChildEvent, Untold},
    store::Store,
    turn_away::{Doorkeeper, TURN_AWAY_AFTER},
};
use crate::child_files;
use protoplex_control::{
    awake::Awake,
    messages::{ChildConfig, FromChild, HAND_OVER_MAX, ToChild},
};
use protoplex_handler::BuildFault;
use protoplex_net::TicketSecret;
use protoplex_seed_client::LinkSender;
use protoplex_wire::{
    link::{FromNode, FromSeed},
    status::Addresses,
};
use rustix::process::{Pid, Signal, kill_process};
use socket2::Socket;
use std::{
    net::Shutdown,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Between two looks at restarts, silence and deadlines.
const TICK: Duration = Duration::from_millis(50);
/// Children get this much longer than their drain deadline before they are killed: they may have channels to hand over.
const DRAIN_SLACK: Duration = HAND_OVER_MAX.saturating_add(Duration::from_secs(1));
/// Children have taken in by then who had come before they were told to drain.
const SHUT_AFTER: Duration = Duration::from_millis(50);
/// Events that children may have waiting.
const EVENTS_MAX: usize = 1_024;

/// A child's index and generation, and what happened to it.
type OfChild = (usize, u64, ChildEvent);

/// Where a node is reached, and how much of the keys is its.
pub(super) struct Site {
    pub(super) addresses: Addresses,
    /// Address of each child of a live node.
    pub(super) child_addresses: Vec<String>,
    pub(super) capacity: u32,
    /// Sockets for plain HTTP of visitors. They close with the actor, after the last child has drained; so do the others.
    pub(super) plain: Vec<Socket>,
    /// All else that visitors and nodes connect to.
    pub(super) others: Vec<Socket>,
}

pub(super) struct Actor {
    pub(super) config: ChildConfig,
    pub(super) site: Site,
    /// Certificates and secrets that children are given.
    pub(super) files: child_files::FileKeeper,
    pub(super) store: Store,
    pub(super) builder: Arc<Builder>,
    pub(super) seats: Vec<Seat>,
    pub(super) active: Option<Arc<ReadyBuild>>,
    pub(super) orders: Orders,
    pub(super) made: mpsc::Receiver<Made>,
    pub(super) seed: Option<LinkSender>,
    pub(super) kept: Kept,
    pub(super) ready: Arc<AtomicBool>,
    /// Clock by which silence is measured.
    awake: Awake,
    logs: Arc<Logs>,
    child_events: (mpsc::Sender<OfChild>, Option<mpsc::Receiver<OfChild>>),
    pub(super) scrape: Option<Scrape>,
    /// The node waits for the Seed's word, at most until then, before it drains.
    pub(super) leaving: Option<Instant>,
    /// Load balancers have until then to see that it is not ready any more.
    pub(super) leaving_not_before: Option<Instant>,
    pub(super) draining: bool,
    /// When nobody new is let in any more, once it drains.
    shut_at: Option<Instant>,
    /// The Seed has heard that some child serves.
    said_serving: bool,
    pub(super) tickets: Option<TicketSecret>,
    /// Some child has come up since this process started.
    has_come_up: bool,
    doorkeeper: Doorkeeper,
    /// All that this task starts, and does not wait for.
    pub(super) tasks: TaskTracker,
    /// Since when no child comes up, by the clock of silence.
    futile_since: Option<Duration>,
    /// Newcomers that were turned away because of that.
    pub(super) turned_away: u64,
}

impl Actor {
    pub(super) fn new(
        config: ChildConfig,
        site: Site,
        files: child_files::FileKeeper,
        store: Store,
        builder: Builder,
        ready: Arc<AtomicBool>,
        tasks: TaskTracker,
    ) -> anyhow::Result<(Self, Arc<Logs>)> {
        let kept = Kept::read(store.dir())?;
        let logs = Arc::new(Logs::default());
        let now = Instant::now();
        let (events, from_children) = mpsc::channel(EVENTS_MAX);
        let (orders, made) = Orders::new();
        let actor = Self {
            seats: (0..config.children).map(|_| Seat::new(now)).collect(),
            config,
            site,
            files,
            store,
            builder: Arc::new(builder),
            active: None,
            orders,
            made,
            seed: None,
            kept,
            ready,
            awake: Awake::new(now),
            logs: Arc::clone(&logs),
            child_events: (events, Some(from_children)),
            scrape: None,
            leaving: None,
            leaving_not_before: None,
            draining: false,
            shut_at: None,
            said_serving: false,
            tickets: TicketSecret::random(),
            has_come_up: false,
            doorkeeper: Doorkeeper::new(tasks.clone()),
            tasks,
            futile_since: None,
            turned_away: 0,
        };
        Ok((actor, logs))
    }

    pub(super) async fn run(
        mut self,
        mut from_link: mpsc::Receiver<LinkEvent>,
        mut from_meta: mpsc::Receiver<Question>,
        lifecycle: Lifecycle,
        on_ready: impl FnOnce(),
    ) -> anyhow::Result<()> {
        self.load_from_disk().await;
        let mut on_ready = Some(on_ready);
        let mut from_children = self.child_events.1.take().expect("run is called once");
        let mut ticks = tokio::time::interval(TICK);
        // By the time in which this process ran, as silence is.
        let mut deadline: Option<Duration> = None;
        loop {
            if !self.has_come_up
                && let Some(reason) = self.futility()
            {
                self.kill_all();
                anyhow::bail!(reason);
            }
            if self.ready.load(Relaxed) || self.active.is_none() && self.has_come_up {
                on_ready.take().into_iter().for_each(|ready| ready());
            }
            tokio::select! {
                Some((index, generation, event)) = from_children.recv() => self.child(index, generation, event).await,
                Some(event) = from_link.recv() => self.link(event).await,
                Some(made) = self.made.recv() => self.build_made(made).await,
                Some(question) = from_meta.recv() => self.question(question).await,
                _ = ticks.tick() => self.tick().await,
                () = lifecycle.reload.notified() => self.reload_files(),
                () = lifecycle.drain.cancelled(), if self.leaving.is_none() => self.leave().await,
                () = lifecycle.stop_now.cancelled() => {
                    tracing::warn!("the node ends at once");
                    self.kill_all();
                    return Ok(());
                }
            }
            if deadline.is_none() && self.leaving.is_some_and(|until| Instant::now() >= until) {
                deadline = Some(
                    self.awake.last()
                        + Duration::from_millis(self.config.drain_timeout_ms)
                        + DRAIN_SLACK,
                );
                self.drain().await;
            }
            let gone = self.seats.iter().all(|seat| seat.process.is_none());
            if deadline.is_some_and(|deadline| gone || self.awake.last() > deadline) {
                self.kill_all();
                tracing::info!("the node has drained");
                return Ok(());
            }
        }
    }

    /// The last good build whose files are right.
    async fn load_from_disk(&mut self) {
        for envelope in self.store.state().held.clone() {
            match self.builder.make(&envelope, false).await {
                Ok(build) => {
                    tracing::info!(build = build.id.short(), "the last good build is on disk");
                    let build = Arc::new(build);
                    self.orders.hold(&build);
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

    async fn tick(&mut self) {
        let now = Instant::now();
        let awake = self.awake.advance(now);
        let mut quiet = false;
        for index in 0..self.seats.len() {
            match self.seats[index].phase {
                Phase::Dead { start_at } if start_at <= now && !self.draining => self.start(index),
                Phase::Dead { .. } => {}
                // One that drains has a deadline of its own, and says nothing until it is done.
                _ if self.draining => {}
                _ => match self.seats[index].silence(awake) {
                    Silence::Short => {}
                    Silence::Quiet => quiet = true,
                    Silence::Stuck => {
                        tracing::error!(child = index, "a child is stuck; it is killed");
                        self.kill(index);
                    }
                },
            }
        }
        if quiet {
            self.rebalance();
        }
        self.tick_scrape();
        self.turn_away();
        if self.shut_at.take_if(|at| *at <= now).is_some() {
            self.shut();
        }
    }

    /// Why no child comes up, if none does.
    pub(super) fn futility(&self) -> Option<String> {
        let last = self.seats.iter().max_by_key(|seat| seat.restarts);
        let last = last.and_then(|seat| seat.last_end.as_deref());
        self.seats.iter().all(Seat::is_futile).then(|| {
            format!(
                "no child of this node comes up; the last one ended with {}",
                last.unwrap_or("no word")
            )
        })
    }

    /// Answers newcomers in place of children that do not come up. One that does finds the same sockets.
    fn turn_away(&mut self) {
        let reason = self.futility().filter(|_| !self.draining);
        let Some(reason) = reason else {
            self.futile_since = None;
            return;
        };
        let now = self.awake.last();
        if now - *self.futile_since.get_or_insert(now) < TURN_AWAY_AFTER {
            return;
        }
        let site = &self.site;
        let count = self.doorkeeper.turn_away(&site.plain, &site.others);
        if count > 0 && self.turned_away == 0 {
            tracing::error!(reason, "newcomers are turned away");
        }
        self.turned_away += count;
    }

    fn start(&mut self, index: usize) {
        let generation = self.seats[index].generation + 1;
        let config = ChildConfig {
            index,
            files_fd: self.files.raw_fd(),
            ..self.config.clone()
        };
        let started = process::start(
            config,
            generation,
            Arc::clone(&self.logs),
            self.child_events.0.clone(),
            &self.tasks,
        );
        let seat = &mut self.seats[index];
        seat.generation = generation;
        seat.hear(self.awake.last());
        match started {
            Ok(process) => {
                seat.process = Some(process);
                seat.phase = Phase::Starting;
            }
            Err(error) => {
                tracing::error!(
                    child = index,
                    error = format!("{error:#}"),
                    "a child cannot be started"
                );
                seat.last_end = Some(format!("{error:#}"));
                seat.died(Instant::now());
            }
        }
    }

    fn kill(&mut self, index: usize) {
        if let Some(process) = self.seats[index].process.take() {
            process.kill();
        }
    }

    /// Ends at once who has not ended by the drain deadline. This process ends next, so nobody else would.
    fn kill_all(&mut self) {
        for process in self.seats.iter().filter_map(|seat| seat.process.as_ref()) {
            let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
            // It may have ended a moment ago.
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
    }

    async fn child(&mut self, index: usize, generation: u64, event: ChildEvent) {
        if self.seats[index].generation != generation {
            return;
        }
        let has_ended = matches!(event, ChildEvent::Ended(_));
        if !has_ended && self.seats[index].hear(self.awake.last()) {
            self.rebalance();
        }
        match event {
            ChildEvent::Said(FromChild::Started, _) => {
                self.seats[index].phase = Phase::Loading;
                self.give_directory(index).await;
                if let Some(tickets) = self.tickets_message() {
                    self.send(index, &tickets, &[]);
                }
                self.load_active(index).await;
                self.join_step(index).await;
                self.has_come_up = true;
                if self.active.is_none() {
                    self.seats[index].came_up();
                    // Visitors of a node that has nothing to serve hear so, instead of waiting.
                    self.send(index, &ToChild::Adopt { index }, &[]);
                }
            }
            ChildEvent::Said(FromChild::Prepared { release, build }, _) => {
                self.child_did(index, release, build, false).await;
            }
            ChildEvent::Said(
                FromChild::Failed {
                    release,
                    build,
                    stage,
                    reason,
                },
                _,
            ) => {
                let fault = BuildFault { stage, reason };
                self.child_failed(index, release, build, fault).await;
            }
            ChildEvent::Said(FromChild::Activated { release, build }, _) => {
                if !self.seats[index].serves() {
                    self.seats[index].came_up();
                    self.seats[index].phase = Phase::Serving {
                        since: Instant::now(),
                    };
                    self.rebalance();
                }
                self.child_did(index, release, build, true).await;
            }
            ChildEvent::Said(FromChild::Directory { version }, _) => {
                self.seats[index].directory = version;
                self.acknowledge().await;
            }
            ChildEvent::Said(FromChild::DirectoryWanted, _) => self.give_directory(index).await,
            ChildEvent::Said(FromChild::Beat(beat), _) => self.seats[index].beat = beat,
            ChildEvent::Said(FromChild::Metrics, fds) => self.child_metrics(index, fds),
            ChildEvent::Said(FromChild::Drained { cut }, _) => {
                tracing::info!(child = index, cut, "a child drained")
            }
            ChildEvent::Ended(status) => {
                if !self.draining {
                    tracing::error!(child = index, status, "a child ended");
                }
                self.seats[index].last_end = Some(status);
                self.seats[index].died(Instant::now());
                hasten(&mut self.seats, Instant::now());
                self.rebalance();
                self.child_gone(index).await;
                self.acknowledge().await;
                self.tick().await;
            }
        }
    }

    /// Gives a new child the active build, and before it serves by that the others that its siblings answer for.
    async fn load_active(&mut self, index: usize) {
        if let Some(active) = self.active.clone() {
            let release = self.store.state().release;
            self.give(index, &active, release).await;
            for other in self.orders.beside(active.id) {
                self.give(index, &other, release).await;
            }
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

    /// Sends a child what it lacks of a build, and the order to prepare it.
    pub(super) async fn give(
        &mut self,
        index: usize,
        build: &Arc<ReadyBuild>,
        release: protoplex_wire::ReleaseId,
    ) {
        for (component, fd) in &build.native {
            if self.seats[index].native.insert(*component) {
                self.send(
                    index,
                    &ToChild::Native {
                        component: *component,
                    },
                    &[fd],
                );
            }
        }
        self.seats[index].builds.insert(build.id);
        let files = [&build.manifest_fd, &build.pack_fd];
        self.send(
            index,
            &ToChild::Prepare {
                release,
                build: build.id,
            },
            &files,
        );
    }

    /// Leaves a message for a child. Never waits for it: one that does not read would stop the node.
    pub(super) fn send(&mut self, index: usize, message: &ToChild, fds: &[&OwnedFd]) {
        let Some(process) = &self.seats[index].process else {
            return;
        };
        match process.tell(message.clone(), fds) {
            Ok(()) => {}
            Err(Untold::Gone) => tracing::debug!(child = index, "a child that ended is not told"),
            // What it would miss, nothing would bring it later.
            Err(error @ (Untold::Full | Untold::Files(_))) => {
                tracing::error!(child = index, %error, "a child cannot be told; it is killed");
                self.kill(index);
            }
        }
    }

    fn rebalance(&mut self) {
        let serves = self.seats.iter().any(Seat::serves);
        self.ready.store(serves && self.leaving.is_none(), Relaxed);
        if std::mem::replace(&mut self.said_serving, serves) != serves {
            // Visitors are on their way by the directory, or should be: the next beat is too late for them.
            self.tell_seed(FromNode::Heartbeat(self.heartbeat()));
        }
        if self.draining {
            return;
        }
        for change in adoptions(&mut self.seats) {
            match change {
                Adoption::Adopt { by, index } => self.send(by, &ToChild::Adopt { index }, &[]),
                Adoption::Disown { by, index } => self.send(by, &ToChild::Disown { index }, &[]),
            }
        }
    }

    async fn drain(&mut self) {
        tracing::info!("draining");
        self.draining = true;
        self.shut_at = Some(Instant::now() + SHUT_AFTER);
        for index in 0..self.seats.len() {
            self.send(index, &ToChild::Drain, &[]);
        }
    }

    /// Shuts the sockets, so that newcomers are refused: in a queue that nobody serves they would wait for the end of
    /// the drain.
    fn shut(&self) {
        for socket in self.site.plain.iter().chain(&self.site.others) {
            // One that is shut already is what we want.
            let _ = socket.shutdown(Shutdown::Read);
        }
    }

    async fn link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::WhoAreWe(answer) => {
                let _ = answer.send(self.hello());
            }
            LinkEvent::Connected(sender) => {
                self.seed = Some(sender);
                self.kept.new_link();
            }
            LinkEvent::Lost => {
                self.seed = None;
                self.leave_alone();
            }
            LinkEvent::Beat => self.tell_seed(FromNode::Heartbeat(self.heartbeat())),
            LinkEvent::Said(FromSeed::Welcome { hop_key }) => self.welcomed(hop_key).await,
            LinkEvent::Said(FromSeed::Directory {
                version,
                nodes,
                members,
                slots,
                more,
            }) => {
                if let Some(whole) = self.kept.part(version, &nodes, members, slots, more) {
                    self.take_directory(whole).await;
                }
            }
            LinkEvent::Said(FromSeed::DirectoryDelta(delta)) => self.change_directory(delta).await,
            LinkEvent::Said(FromSeed::Left) => self.let_go(),
            LinkEvent::Said(FromSeed::Prepare {
                release,
                build,
                envelope,
            }) => {
                self.prepare(release, build, envelope).await;
            }
            LinkEvent::Said(FromSeed::Activate { release, build }) => {
                self.activate(release, build).await
            }
            LinkEvent::Said(FromSeed::Abandon { release }) => self.abandon(release).await,
        }
    }

    /// Says something to the Seed. Never waits for it: where its link is full or gone, another one brings up to date.
    pub(super) fn tell_seed(&mut self, message: FromNode) {
        if let Some(seed) = &self.seed
            && !seed.try_send(&message)
        {
            tracing::warn!("the link to the Seed is full, or gone; another one is made");
            self.seed = None;
        }
    }
}
