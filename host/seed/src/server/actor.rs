//! The one task that owns the core: feeds it events, runs its effects in order.

use crate::{
    core::{Build, Core, Effect, Event, LinkId, Refusal, RequestId},
    store::{Needed, Store, StoreError},
};
use bytes::Bytes;
use protoplex_wire::{
    BuildId,
    link::{self, FromNode, Hello},
    status::{NodeStatus, ReleaseEvent, ReleaseOutcome, ReleaseRecord, SeedStatus},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Between two ticks that tell the core the time.
const TICK: Duration = Duration::from_millis(100);
/// Events that may wait; senders wait beyond.
const EVENTS_MAX: usize = 1_024;
/// Frames that may wait for a node; a node that does not read is cut off beyond.
const OUTBOX_FRAMES_MAX: usize = 256;

/// Milliseconds since 1970 that never run backwards: the wall clock at start, then the monotonic one.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    unix_ms: u64,
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX / 2),
            start: Instant::now(),
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0);
        self.unix_ms + passed
    }
}

/// State that every request may look at.
pub(super) struct View {
    pub status: SeedStatus,
    pub nodes: Vec<NodeStatus>,
    /// Newest first.
    pub releases: Vec<ReleaseRecord>,
    pub rollback_target: Option<BuildId>,
}

/// Events of one release, until `finished`. At most a few for each node.
pub(super) type Follow = mpsc::UnboundedReceiver<ReleaseEvent>;

/// The sending end of a link, as the actor holds it.
struct Outbox {
    frames: mpsc::Sender<Bytes>,
    end: CancellationToken,
}

enum Command {
    Hello(LinkId, Box<Hello>, Outbox),
    Frame(LinkId, FromNode),
    Gone(LinkId),
    Order(
        Build,
        Option<Option<BuildId>>,
        oneshot::Sender<Result<Follow, Refusal>>,
    ),
    Adopt(Build, oneshot::Sender<Result<Follow, Refusal>>),
    View(oneshot::Sender<View>),
    Needed(oneshot::Sender<Needed>),
}

/// The way to the actor. Its calls fail only when the Seed is stopping.
#[derive(Clone)]
pub(super) struct Seed {
    commands: mpsc::Sender<(Command, u64)>,
    clock: Clock,
}

impl Seed {
    /// A link began. Returns the frames to send on it; it has ended when they end, or when `end` is cancelled.
    pub(super) async fn hello(
        &self,
        link: LinkId,
        hello: Hello,
        end: CancellationToken,
    ) -> mpsc::Receiver<Bytes> {
        let (frames, queue) = mpsc::channel(OUTBOX_FRAMES_MAX);
        self.tell(Command::Hello(
            link,
            Box::new(hello),
            Outbox { frames, end },
        ))
        .await;
        queue
    }

    pub(super) async fn frame(&self, link: LinkId, frame: FromNode) {
        self.tell(Command::Frame(link, frame)).await;
    }

    pub(super) async fn gone(&self, link: LinkId) {
        self.tell(Command::Gone(link)).await;
    }

    /// Orders a release; `None` when the Seed is stopping.
    pub(super) async fn order(
        &self,
        build: Build,
        made_against: Option<Option<BuildId>>,
    ) -> Option<Result<Follow, Refusal>> {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Order(build, made_against, answer)).await;
        answered.await.ok()
    }

    /// Orders that what the nodes run is the fleet's build; `None` when the Seed is stopping.
    pub(super) async fn adopt(&self, build: Build) -> Option<Result<Follow, Refusal>> {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Adopt(build, answer)).await;
        answered.await.ok()
    }

    /// State to look at; `None` when the Seed is stopping.
    pub(super) async fn view(&self) -> Option<View> {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::View(answer)).await;
        answered.await.ok()
    }

    /// The builds that must not be removed; `None` when the Seed is stopping.
    pub(super) async fn needed(&self) -> Option<Needed> {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Needed(answer)).await;
        answered.await.ok()
    }

    /// Stamped here, so that time in the queue is nobody's silence.
    async fn tell(&self, command: Command) {
        let now_ms = self.clock.now_ms();
        // A closed channel means that the Seed is stopping, and then nothing is owed to anyone.
        let _ = self.commands.send((command, now_ms)).await;
    }
}

/// The task's state.
pub(super) struct Actor {
    core: Core,
    store: Arc<Store>,
    clock: Clock,
    commands: mpsc::Receiver<(Command, u64)>,
    links: HashMap<LinkId, Outbox>,
    orders: HashMap<RequestId, oneshot::Sender<Result<Follow, Refusal>>>,
    followers: Vec<mpsc::UnboundedSender<ReleaseEvent>>,
    requests: RequestId,
}

pub(super) fn start(core: Core, store: Arc<Store>, clock: Clock) -> (Seed, Actor) {
    let (sender, commands) = mpsc::channel(EVENTS_MAX);
    let seed = Seed {
        commands: sender,
        clock,
    };
    let actor = Actor {
        core,
        store,
        clock,
        commands,
        links: HashMap::new(),
        orders: HashMap::new(),
        followers: Vec::new(),
        requests: 0,
    };
    (seed, actor)
}

impl Actor {
    /// Runs until `shutdown`. Its end closes every link: nothing more is said, least of all that nodes went.
    pub(super) async fn run(mut self, effects: Vec<Effect>, shutdown: CancellationToken) {
        if let Err(error) = self.perform(effects).await {
            tracing::error!(%error, "the state cannot be written");
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => self.event(Event::Tick, self.tick_ms()).await,
                command = self.commands.recv() => match command {
                    Some((command, now_ms)) => self.command(command, now_ms).await,
                    None => return,
                },
            }
        }
    }

    /// Now, but not later than what already waits in the queue was heard.
    fn tick_ms(&self) -> u64 {
        match self.commands.is_empty() {
            true => self.clock.now_ms(),
            false => self.core.now_ms(),
        }
    }

    async fn command(&mut self, command: Command, now_ms: u64) {
        match command {
            Command::Hello(link, hello, outbox) => {
                tracing::info!(node = hello.node, role = %hello.role, active = ?hello.active, release = %hello.release, "a node came");
                self.links.insert(link, outbox);
                let hello = *hello;
                self.event(Event::NodeHello { link, hello }, now_ms).await;
            }
            Command::Frame(link, frame) => {
                self.event(Event::NodeFrame { link, frame }, now_ms).await;
            }
            Command::Gone(link) => {
                self.close(link);
                self.event(Event::NodeGone { link }, now_ms).await;
            }
            Command::Order(build, made_against, answer) => {
                self.requests += 1;
                let request = self.requests;
                self.orders.insert(request, answer);
                let event = Event::Order {
                    request,
                    build,
                    made_against,
                };
                self.event(event, now_ms).await;
            }
            Command::Adopt(build, answer) => {
                self.requests += 1;
                let request = self.requests;
                self.orders.insert(request, answer);
                self.event(Event::Adopt { request, build }, now_ms).await;
            }
            Command::View(answer) => {
                let history = &self.core.durable().history;
                let view = View {
                    status: self.core.status(),
                    nodes: self.core.nodes(self.clock.now_ms()),
                    releases: history.iter().rev().cloned().collect(),
                    rollback_target: self.core.rollback_target(),
                };
                // Who asked may have left.
                let _ = answer.send(view);
            }
            Command::Needed(answer) => {
                let _ = answer.send(self.needed());
            }
        }
    }

    fn needed(&self) -> Needed {
        let durable = self.core.durable();
        let running = durable
            .history
            .iter()
            .filter(|record| record.outcome == ReleaseOutcome::Running);
        let nodes = self.core.nodes(self.clock.now_ms());
        let always = durable
            .active_build()
            .into_iter()
            .chain(self.core.rollback_target())
            .chain(running.map(|record| record.build))
            .chain(nodes.iter().filter_map(|node| node.active));
        let mut seen = HashSet::new();
        let released = durable.history.iter().rev().map(|record| record.build);
        Needed {
            always: always.collect(),
            released: released.filter(|build| seen.insert(*build)).collect(),
        }
    }

    /// One step. When the disk refuses, the core is what it was before: the event has not happened.
    async fn event(&mut self, event: Event, now_ms: u64) {
        let undo = match &event {
            Event::NodeFrame {
                frame: FromNode::Heartbeat(_) | FromNode::DirectoryAck { .. },
                ..
            } => None, // Never persists, and comes often.
            _ => Some(self.core.clone()),
        };
        let (link, request) = match &event {
            Event::NodeHello { link, .. } => (Some(*link), None),
            Event::Order { request, .. } | Event::Adopt { request, .. } => (None, Some(*request)),
            _ => (None, None),
        };
        let effects = self.core.step(event, now_ms);
        let Err(error) = self.perform(effects).await else {
            return;
        };
        tracing::error!(%error, "the state cannot be written; the event is put back");
        if let Some(undo) = undo {
            self.core = undo;
        }
        if let Some(link) = link {
            self.close(link);
        }
        if let Some(answer) = request.and_then(|request| self.orders.remove(&request)) {
            let _ = answer.send(Err(Refusal::Storage(error.to_string())));
        }
    }

    /// Runs effects in order. The disk comes first, so that an error means that nothing was done.
    async fn perform(&mut self, effects: Vec<Effect>) -> Result<(), StoreError> {
        for effect in effects {
            match effect {
                Effect::Persist(state) => {
                    self.on_disk(move |store| store.save_state(&state)).await?
                }
                Effect::Remember(known) => {
                    if let Err(error) = self.on_disk(move |store| store.save_known(&known)).await {
                        tracing::warn!(%error, "the directory is not remembered");
                    }
                }
                Effect::Send { link, message } => self.send(link, link::encode(&message).into()),
                Effect::Close { link, reason } => {
                    tracing::warn!(link, reason, "a link is closed");
                    self.close(link);
                }
                Effect::Accepted { request, release } => {
                    tracing::info!(%release, "a release begins");
                    self.accepted(request);
                }
                Effect::Refused { request, refusal } => {
                    tracing::info!(%refusal, "an order is refused");
                    if let Some(answer) = self.orders.remove(&request) {
                        let _ = answer.send(Err(refusal));
                    }
                }
                Effect::Emit(event) => self.emit(event),
                Effect::Held(hold) => tracing::error!(%hold, "the Seed orders nothing by itself"),
            }
        }
        Ok(())
    }

    async fn on_disk(
        &self,
        write: impl FnOnce(&Store) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        let written = tokio::task::spawn_blocking(move || write(&store)).await;
        written.unwrap_or_else(|error| {
            Err(StoreError::Io {
                path: "the store".into(),
                source: std::io::Error::other(error),
            })
        })
    }

    fn send(&mut self, link: LinkId, frame: Bytes) {
        let Some(outbox) = self.links.get(&link) else {
            return;
        };
        if frame.len() > link::FRAME_BYTES_MAX {
            tracing::error!(link, bytes = frame.len(), "a frame is too long to be sent");
        } else if outbox.frames.try_send(frame).is_err() {
            tracing::warn!(link, "a node does not read its link");
            // Its reader ends, and says that the link is gone.
            outbox.end.cancel();
        }
    }

    fn close(&mut self, link: LinkId) {
        if let Some(outbox) = self.links.remove(&link) {
            outbox.end.cancel();
        }
    }

    fn accepted(&mut self, request: RequestId) {
        if let Some(answer) = self.orders.remove(&request) {
            let (follower, follow) = mpsc::unbounded_channel();
            self.followers.push(follower);
            let _ = answer.send(Ok(follow));
        }
    }

    fn emit(&mut self, event: ReleaseEvent) {
        log(&event);
        let finished = matches!(event, ReleaseEvent::Finished(_));
        self.followers
            .retain(|follower| follower.send(event.clone()).is_ok());
        if finished {
            self.followers.clear();
            self.store.want_collection();
        }
    }
}

fn log(event: &ReleaseEvent) {
    match event {
        ReleaseEvent::Started {
            release,
            build,
            nodes,
        } => {
            tracing::info!(%release, %build, nodes = nodes.len(), "preparing");
        }
        ReleaseEvent::Node(answer) => {
            tracing::info!(node = answer.node, answer = ?answer.answer, elapsed_ms = answer.elapsed_ms, "a node answered");
        }
        ReleaseEvent::Activating { release } => tracing::info!(%release, "activating"),
        ReleaseEvent::Finished(record) => {
            let reason = record.reason.as_deref().unwrap_or_default();
            tracing::info!(release = %record.release, outcome = ?record.outcome, reason, elapsed_ms = record.elapsed_ms, "a release ended");
        }
    }
}
