//! The one task that owns a node's state. Release orders are in `orders`, children's lives here.

use super::{
    builds::{Builder, ReadyBuild},
    children::{Adoption, Phase, SILENCE_MAX, Seat, adoptions, hasten},
    directory::Kept,
    link::LinkEvent,
    logs::Logs,
    orders::{Made, Orders},
    process::{self, ChildEvent},
    store::Store,
};
use crate::control::{Beat, ChildConfig, FromChild, ToChild};
use protoplex_edge::TicketSecret;
use protoplex_handler::BuildFault;
use protoplex_seed::client::LinkSender;
use protoplex_wire::{
    BuildId,
    directory::DIRECTORY_FORMAT,
    link::{FromNode, FromSeed, Heartbeat, Hello},
    status::Addresses,
};
use socket2::Socket;
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    net::Shutdown,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How often restarts, silence and deadlines are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Children get this much longer than their drain deadline before they are killed.
const DRAIN_SLACK: Duration = Duration::from_secs(2);
/// Children have taken in by then who had come before they were told to drain.
const SHUT_AFTER: Duration = Duration::from_millis(50);
/// How long `/metrics` waits for the children.
const METRICS_TIMEOUT: Duration = Duration::from_secs(1);
/// Events that children may have waiting.
const EVENTS_MAX: usize = 1_024;

/// A child's index and generation, and what happened to it.
type OfChild = (usize, u64, ChildEvent);

/// What the meta port asks.
pub(super) enum Question {
    Metrics(oneshot::Sender<String>),
    Status(oneshot::Sender<serde_json::Value>),
}

/// Where a node is reached, and how much of the keys is its.
pub(super) struct Site {
    pub(super) addresses: Addresses,
    /// Of each child of a live node.
    pub(super) child_addresses: Vec<String>,
    pub(super) capacity: u32,
    /// All that visitors and nodes connect to. They close with the actor, after the last child has drained.
    pub(super) listening: Vec<Socket>,
}

pub(super) struct Actor {
    pub(super) config: ChildConfig,
    site: Site,
    pub(super) store: Store,
    pub(super) builder: Arc<Builder>,
    pub(super) seats: Vec<Seat>,
    pub(super) active: Option<Arc<ReadyBuild>>,
    pub(super) orders: Orders,
    pub(super) made: mpsc::Receiver<Made>,
    pub(super) seed: Option<LinkSender>,
    pub(super) kept: Kept,
    pub(super) ready: Arc<AtomicBool>,
    logs: Arc<Logs>,
    child_events: (mpsc::Sender<OfChild>, Option<mpsc::Receiver<OfChild>>),
    metrics: Option<(oneshot::Sender<String>, usize, Vec<String>, Instant)>,
    /// It waits for the Seed's word, at most until then, before it drains.
    pub(super) leaving: Option<Instant>,
    /// Load balancers have until then to see that it is not ready any more.
    pub(super) leaving_not_before: Option<Instant>,
    draining: bool,
    /// When nobody new is let in any more, once it drains.
    shut_at: Option<Instant>,
    /// The Seed has heard that some child serves.
    said_serving: bool,
    tickets: Option<TicketSecret>,
}

impl Actor {
    pub(super) fn new(
        config: ChildConfig,
        site: Site,
        store: Store,
        builder: Builder,
        ready: Arc<AtomicBool>,
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
            store,
            builder: Arc::new(builder),
            active: None,
            orders,
            made,
            seed: None,
            kept,
            ready,
            logs: Arc::clone(&logs),
            child_events: (events, Some(from_children)),
            metrics: None,
            leaving: None,
            leaving_not_before: None,
            draining: false,
            shut_at: None,
            said_serving: false,
            tickets: TicketSecret::random(),
        };
        Ok((actor, logs))
    }

    pub(super) async fn run(
        mut self,
        mut from_link: mpsc::Receiver<LinkEvent>,
        mut from_meta: mpsc::Receiver<Question>,
        certificates: Arc<Notify>,
        shutdown: CancellationToken,
        on_ready: impl FnOnce(),
    ) -> anyhow::Result<()> {
        self.load_from_disk().await;
        let mut on_ready = Some(on_ready);
        let mut from_children = self.child_events.1.take().expect("run is called once");
        let mut ticks = tokio::time::interval(TICK);
        let mut deadline: Option<Instant> = None;
        loop {
            if self.ready.load(Relaxed) || self.active.is_none() {
                on_ready.take().into_iter().for_each(|ready| ready());
            }
            tokio::select! {
                Some((index, generation, event)) = from_children.recv() => self.child(index, generation, event).await,
                Some(event) = from_link.recv() => self.link(event).await,
                Some(made) = self.made.recv() => self.build_made(made).await,
                Some(question) = from_meta.recv() => self.question(question).await,
                _ = ticks.tick() => self.tick().await,
                () = certificates.notified() => self.reload_certificates().await,
                () = shutdown.cancelled(), if self.leaving.is_none() => self.leave().await,
            }
            if deadline.is_none() && self.leaving.is_some_and(|until| Instant::now() >= until) {
                deadline = Some(
                    Instant::now()
                        + Duration::from_millis(self.config.drain_timeout_ms)
                        + DRAIN_SLACK,
                );
                self.drain().await;
            }
            let gone = self.seats.iter().all(|seat| seat.process.is_none());
            if deadline.is_some_and(|deadline| gone || Instant::now() > deadline) {
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
        for index in 0..self.seats.len() {
            match self.seats[index].phase {
                Phase::Dead { start_at } if start_at <= now && !self.draining => self.start(index),
                Phase::Dead { .. } => {}
                // One that drains has a deadline of its own, and says nothing until it is done.
                _ if !self.draining && now - self.seats[index].heard > SILENCE_MAX => {
                    tracing::error!(child = index, "a child is stuck; it is killed");
                    self.kill(index);
                }
                _ => {}
            }
        }
        if self.shut_at.take_if(|at| *at <= now).is_some() {
            self.shut();
        }
        if self
            .metrics
            .as_ref()
            .is_some_and(|(.., since)| since.elapsed() > METRICS_TIMEOUT)
        {
            self.finish_metrics();
        }
    }

    fn start(&mut self, index: usize) {
        let generation = self.seats[index].generation + 1;
        let config = ChildConfig {
            index,
            ..self.config.clone()
        };
        let started = process::start(
            config,
            generation,
            Arc::clone(&self.logs),
            self.child_events.0.clone(),
        );
        let seat = &mut self.seats[index];
        seat.generation = generation;
        seat.heard = Instant::now();
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
                seat.died(Instant::now());
            }
        }
    }

    fn kill(&mut self, index: usize) {
        if let Some(process) = self.seats[index].process.take() {
            let _ = process.kill.send(());
            self.seats[index].heard = Instant::now();
        }
    }

    async fn child(&mut self, index: usize, generation: u64, event: ChildEvent) {
        if self.seats[index].generation != generation {
            return;
        }
        self.seats[index].heard = Instant::now();
        match event {
            ChildEvent::Said(FromChild::Started, _) => {
                self.seats[index].phase = Phase::Loading;
                self.give_directory(index).await;
                if let Some(tickets) = self.tickets_message() {
                    self.send(index, &tickets, &[]).await;
                }
                self.load_active(index).await;
                self.join_step(index).await;
                if self.active.is_none() {
                    // Visitors of a node that has nothing to serve hear so, instead of waiting.
                    self.send(index, &ToChild::Adopt { index }, &[]).await;
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
                    self.seats[index].phase = Phase::Serving {
                        since: Instant::now(),
                    };
                    self.rebalance().await;
                }
                self.child_did(index, release, build, true).await;
            }
            ChildEvent::Said(FromChild::Directory { version }, _) => {
                self.seats[index].directory = version;
                self.acknowledge().await;
            }
            ChildEvent::Said(FromChild::DirectoryWanted, _) => self.give_directory(index).await,
            ChildEvent::Said(FromChild::Beat(beat), _) => self.seats[index].beat = beat,
            ChildEvent::Said(FromChild::Metrics, fds) => self.child_metrics(fds),
            ChildEvent::Said(FromChild::Drained { cut }, _) => {
                tracing::info!(child = index, cut, "a child drained")
            }
            ChildEvent::Ended(status) => {
                if !self.draining {
                    tracing::error!(child = index, status, "a child ended");
                }
                self.seats[index].died(Instant::now());
                hasten(&mut self.seats, Instant::now());
                self.rebalance().await;
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
            )
            .await;
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
                )
                .await;
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
        )
        .await;
    }

    pub(super) async fn send(&self, index: usize, message: &ToChild, fds: &[&OwnedFd]) {
        let Some(process) = &self.seats[index].process else {
            return;
        };
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        if let Err(error) = process.channel.send(message, &fds).await {
            // Its end is on its way as an event.
            tracing::warn!(child = index, %error, "a child cannot be told");
        }
    }

    async fn rebalance(&mut self) {
        let serves = self.seats.iter().any(Seat::serves);
        self.ready.store(serves && self.leaving.is_none(), Relaxed);
        if std::mem::replace(&mut self.said_serving, serves) != serves {
            // Visitors are on their way by the directory, or should be: the next beat is too late for them.
            self.tell_seed(FromNode::Heartbeat(self.heartbeat())).await;
        }
        if self.draining {
            return;
        }
        for change in adoptions(&mut self.seats) {
            match change {
                Adoption::Adopt { by, index } => {
                    self.send(by, &ToChild::Adopt { index }, &[]).await
                }
                Adoption::Disown { by, index } => {
                    self.send(by, &ToChild::Disown { index }, &[]).await
                }
            }
        }
    }

    /// Children hold the certificates; what is wrong with new ones they say.
    async fn reload_certificates(&mut self) {
        tracing::info!("the certificates' files have changed");
        for index in 0..self.seats.len() {
            self.send(index, &ToChild::Certificates, &[]).await;
        }
    }

    fn tickets_message(&mut self) -> Option<ToChild> {
        let secret = self.tickets.as_mut()?;
        secret.advance();
        Some(ToChild::Tickets {
            epoch: secret.epoch,
            secret: hex::encode(secret.secret),
        })
    }

    async fn drain(&mut self) {
        tracing::info!("draining");
        self.draining = true;
        self.shut_at = Some(Instant::now() + SHUT_AFTER);
        for index in 0..self.seats.len() {
            self.send(index, &ToChild::Drain, &[]).await;
        }
    }

    /// Who comes from now on is refused: in a queue that nobody serves they would wait for the end of the drain.
    fn shut(&self) {
        for socket in &self.site.listening {
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
            LinkEvent::Beat => self.tell_seed(FromNode::Heartbeat(self.heartbeat())).await,
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

    pub(super) async fn tell_seed(&mut self, message: FromNode) {
        if let Some(seed) = &self.seed
            && !seed.send(&message).await
        {
            self.seed = None;
        }
    }

    fn hello(&self) -> Hello {
        let state = self.store.state();
        Hello {
            node: self.config.node.clone(),
            role: self.config.role,
            host_version: env!("CARGO_PKG_VERSION").into(),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            addresses: self.site.addresses.clone(),
            children: u32::try_from(self.seats.len()).unwrap_or(u32::MAX),
            held: state.held.iter().map(|envelope| envelope.build).collect(),
            active: self.active_id(),
            release: state.release,
            region: self.config.region.clone(),
            capacity: self.site.capacity,
            child_addresses: self.site.child_addresses.clone(),
            children_ready: Some(self.heartbeat().children_ready),
            directory_format: DIRECTORY_FORMAT,
            leaving: self.leaving.is_some(),
        }
    }

    pub(super) fn active_id(&self) -> Option<BuildId> {
        self.active.as_ref().map(|build| build.id)
    }

    fn sums(&self) -> Beat {
        self.seats
            .iter()
            .flat_map(|seat| [seat.beat, seat.past])
            .fold(Beat::default(), |sum, beat| Beat {
                requests: sum.requests + beat.requests,
                errors: sum.errors + beat.errors,
                traps: sum.traps + beat.traps,
                in_flight: sum.in_flight + beat.in_flight,
                connections: sum.connections + beat.connections,
            })
    }

    fn heartbeat(&self) -> Heartbeat {
        let sums = self.sums();
        let serving = self.seats.iter().filter(|seat| seat.serves()).count();
        Heartbeat {
            children_ready: u32::try_from(serving).unwrap_or(u32::MAX),
            requests: sums.requests,
            errors: sums.errors,
            traps: sums.traps,
        }
    }

    async fn question(&mut self, question: Question) {
        match question {
            Question::Status(answer) => {
                let _ = answer.send(self.status());
            }
            Question::Metrics(answer) => {
                let serving: Vec<_> = (0..self.seats.len())
                    .filter(|&index| self.seats[index].serves())
                    .collect();
                self.metrics = Some((answer, serving.len(), Vec::new(), Instant::now()));
                for index in &serving {
                    self.send(*index, &ToChild::Metrics, &[]).await;
                }
                if serving.is_empty() {
                    self.finish_metrics();
                }
            }
        }
    }

    fn status(&self) -> serde_json::Value {
        let children: Vec<_> = self
            .seats
            .iter()
            .map(|seat| {
                let phase = match seat.phase {
                    Phase::Dead { .. } => "dead",
                    Phase::Starting => "starting",
                    Phase::Loading => "loading",
                    Phase::Serving { .. } => "serving",
                };
                let pid = seat.process.as_ref().map(|process| process.pid);
                serde_json::json!({
                    "pid": pid, "state": phase, "restarts": seat.restarts, "beat": seat.beat, "adopter": seat.adopter,
                })
            })
            .collect();
        let state = self.store.state();
        serde_json::json!({
            "node": self.config.node, "role": self.config.role, "active": self.active_id(),
            "held": state.held.iter().map(|envelope| envelope.build).collect::<Vec<_>>(),
            "release": state.release, "seed_connected": self.seed.is_some(), "draining": self.draining,
            "leaving": self.leaving.is_some(), "region": self.config.region, "directory": self.kept.version(),
            "addresses": self.site.addresses, "child_addresses": self.site.child_addresses, "children": children,
        })
    }

    fn child_metrics(&mut self, fds: Vec<OwnedFd>) {
        let Some((_, expected, texts, _)) = &mut self.metrics else {
            return;
        };
        let mut text = String::new();
        if let Some(fd) = fds.into_iter().next() {
            let mut file = File::from(fd);
            let _ = std::io::Seek::rewind(&mut file);
            let _ = file.read_to_string(&mut text);
        }
        texts.push(text);
        if texts.len() >= *expected {
            self.finish_metrics();
        }
    }

    fn finish_metrics(&mut self) {
        let Some((answer, _, mut texts, _)) = self.metrics.take() else {
            return;
        };
        let release = self.store.state().release;
        let restarts: u64 = self.seats.iter().map(|seat| seat.restarts).sum();
        let serving = self.seats.iter().filter(|seat| seat.serves()).count();
        texts.push(format!(
            "# HELP protoplex_children_serving Children that answer requests.\n# TYPE protoplex_children_serving gauge\n\
             protoplex_children_serving {serving}\n\
             # HELP protoplex_child_restarts_total Children that were started again.\n\
             # TYPE protoplex_child_restarts_total counter\nprotoplex_child_restarts_total {restarts}\n\
             # HELP protoplex_release_sequence The highest release taken, within its epoch.\n\
             # TYPE protoplex_release_sequence gauge\nprotoplex_release_sequence{{epoch=\"{}\"}} {}\n",
            release.epoch, release.sequence
        ));
        let _ = answer.send(merge(&texts));
    }
}

/// Puts the samples of each family of several texts together, with one HELP and TYPE.
fn merge(texts: &[String]) -> String {
    let mut order: Vec<&str> = Vec::new();
    let mut families: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        let name = match line.strip_prefix("# ") {
            Some(rest) => rest.split(' ').nth(1).unwrap_or_default(),
            None => line.split(['{', ' ']).next().unwrap_or_default(),
        };
        let family = families.entry(name).or_insert_with(|| {
            order.push(name);
            Default::default()
        });
        let lines = if line.starts_with('#') {
            &mut family.0
        } else {
            &mut family.1
        };
        if !line.starts_with('#') || !lines.contains(&line) {
            lines.push(line);
        }
    }
    let lines = order
        .iter()
        .flat_map(|name| families[name].0.iter().chain(&families[name].1));
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::merge;

    #[test]
    fn families_of_several_children_are_merged_under_one_help() {
        let child = |n: u32| {
            format!(
                "# HELP a A.\n# TYPE a counter\na{{child=\"{n}\"}} {n}\n# HELP b B.\n# TYPE b gauge\nb 1\n"
            )
        };
        let merged = merge(&[child(0), child(1)]);
        assert_eq!(merged.matches("# HELP a").count(), 1);
        assert!(
            merged.contains("a{child=\"0\"} 0\na{child=\"1\"} 1\n"),
            "{merged}"
        );
    }
}
