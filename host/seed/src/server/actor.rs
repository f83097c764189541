//! The one task that owns the core: feeds it events, runs its effects in order.

use crate::{
    core::{CheckedBuild, CoreEffect, CoreEvent, LinkId, OrderRefusal, RequestId, SeedCore},
    store::{NeededBuilds, SeedStore, StoreError},
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

/// Time between two ticks that tell the core the time.
const TICK: Duration = Duration::from_millis(100);
/// Most events that may wait; senders wait beyond.
const EVENTS_MAX: usize = 1_024;
/// Most frames that may wait for a node; a node that does not read is cut off beyond.
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

/// Copy of the core's state, for requests that look at it.
pub(super) struct CoreView {
    pub status: SeedStatus,
    pub nodes: Vec<NodeStatus>,
    /// Records of releases, the newest first.
    pub releases: Vec<ReleaseRecord>,
    pub rollback_target: Option<BuildId>,
}

/// Receiver of the events of one release, until `finished`. At most a few for each node.
pub(super) type ReleaseFollower = mpsc::UnboundedReceiver<ReleaseEvent>;

/// The sending end of a link, as the actor holds it.
struct LinkOutbox {
    frames: mpsc::Sender<Bytes>,
    end: CancellationToken,
}

enum ActorCommand {
    Hello(LinkId, Box<Hello>, LinkOutbox),
    Frame(LinkId, FromNode),
    Gone(LinkId),
    Order(
        CheckedBuild,
        Option<Option<BuildId>>,
        oneshot::Sender<Result<ReleaseFollower, OrderRefusal>>,
    ),
    Adopt(
        CheckedBuild,
        oneshot::Sender<Result<ReleaseFollower, OrderRefusal>>,
    ),
    View(oneshot::Sender<CoreView>),
    Needed(oneshot::Sender<NeededBuilds>),
}

/// Handle of the actor. Calls fail only when the Seed is stopping.
#[derive(Clone)]
pub(super) struct SeedHandle {
    commands: mpsc::Sender<(ActorCommand, u64)>,
    clock: Clock,
}

impl SeedHandle {
    /// Tells the actor that a link began. Returns the frames to send on it; it has ended when they end, or when `end`
    /// is cancelled.
    pub(super) async fn hello(
        &self,
        link: LinkId,
        hello: Hello,
        end: CancellationToken,
    ) -> mpsc::Receiver<Bytes> {
        let (frames, queue) = mpsc::channel(OUTBOX_FRAMES_MAX);
        self.tell(ActorCommand::Hello(
            link,
            Box::new(hello),
            LinkOutbox { frames, end },
        ))
        .await;
        queue
    }

    pub(super) async fn frame(&self, link: LinkId, frame: FromNode) {
        self.tell(ActorCommand::Frame(link, frame)).await;
    }

    pub(super) async fn gone(&self, link: LinkId) {
        self.tell(ActorCommand::Gone(link)).await;
    }

    /// Orders a release; `None` when the Seed is stopping.
    pub(super) async fn order(
        &self,
        build: CheckedBuild,
        made_against: Option<Option<BuildId>>,
    ) -> Option<Result<ReleaseFollower, OrderRefusal>> {
        let (answer, answered) = oneshot::channel();
        self.tell(ActorCommand::Order(build, made_against, answer))
            .await;
        answered.await.ok()
    }

    /// Orders that what the nodes run becomes the fleet's build; `None` when the Seed is stopping.
    pub(super) async fn adopt(
        &self,
        build: CheckedBuild,
    ) -> Option<Result<ReleaseFollower, OrderRefusal>> {
        let (answer, answered) = oneshot::channel();
        self.tell(ActorCommand::Adopt(build, answer)).await;
        answered.await.ok()
    }

    /// Copies the state of the core; `None` when the Seed is stopping.
    pub(super) async fn view(&self) -> Option<CoreView> {
        let (answer, answered) = oneshot::channel();
        self.tell(ActorCommand::View(answer)).await;
        answered.await.ok()
    }

    /// Collects the builds that must not be removed; `None` when the Seed is stopping.
    pub(super) async fn needed(&self) -> Option<NeededBuilds> {
        let (answer, answered) = oneshot::channel();
        self.tell(ActorCommand::Needed(answer)).await;
        answered.await.ok()
    }

    /// Sends a command with the time of now, so that time in the queue is nobody's silence.
    async fn tell(&self, command: ActorCommand) {
        let now_ms = self.clock.now_ms();
        // A closed channel means that the Seed is stopping, and then nothing is owed to anyone.
        let _ = self.commands.send((command, now_ms)).await;
    }
}

/// The task that owns the core, with the links and orders that its effects go to.
pub(super) struct CoreActor {
    core: SeedCore,
    store: Arc<SeedStore>,
    clock: Clock,
    commands: mpsc::Receiver<(ActorCommand, u64)>,
    links: HashMap<LinkId, LinkOutbox>,
    orders: HashMap<RequestId, oneshot::Sender<Result<ReleaseFollower, OrderRefusal>>>,
    followers: Vec<mpsc::UnboundedSender<ReleaseEvent>>,
    requests: RequestId,
}

pub(super) fn start(
    core: SeedCore,
    store: Arc<SeedStore>,
    clock: Clock,
) -> (SeedHandle, CoreActor) {
    let (sender, commands) = mpsc::channel(EVENTS_MAX);
    let seed = SeedHandle {
        commands: sender,
        clock,
    };
    let actor = CoreActor {
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

impl CoreActor {
    /// Runs until `shutdown`. The end of the task closes every link: nothing more is said, least of all that nodes
    /// went.
    pub(super) async fn run(mut self, effects: Vec<CoreEffect>, shutdown: CancellationToken) {
        if let Err(error) = self.perform(effects).await {
            tracing::error!(%error, "the Seed's state cannot be written at its start; free the disk of its data folder");
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => self.event(CoreEvent::Tick, self.tick_ms()).await,
                command = self.commands.recv() => match command {
                    Some((command, now_ms)) => self.command(command, now_ms).await,
                    None => return,
                },
            }
        }
    }

    /// Time of a tick: now, but not later than what already waits in the queue was heard.
    fn tick_ms(&self) -> u64 {
        match self.commands.is_empty() {
            true => self.clock.now_ms(),
            false => self.core.now_ms(),
        }
    }

    async fn command(&mut self, command: ActorCommand, now_ms: u64) {
        match command {
            ActorCommand::Hello(link, hello, outbox) => {
                tracing::info!(node = hello.node, role = %hello.role, active = ?hello.active, release = %hello.release, "a node opened its link");
                self.links.insert(link, outbox);
                let hello = *hello;
                self.event(CoreEvent::NodeHello { link, hello }, now_ms)
                    .await;
            }
            ActorCommand::Frame(link, frame) => {
                self.event(CoreEvent::NodeFrame { link, frame }, now_ms)
                    .await;
            }
            ActorCommand::Gone(link) => {
                self.close(link);
                self.event(CoreEvent::NodeGone { link }, now_ms).await;
            }
            ActorCommand::Order(build, made_against, answer) => {
                self.requests += 1;
                let request = self.requests;
                self.orders.insert(request, answer);
                let event = CoreEvent::Order {
                    request,
                    build,
                    made_against,
                };
                self.event(event, now_ms).await;
            }
            ActorCommand::Adopt(build, answer) => {
                self.requests += 1;
                let request = self.requests;
                self.orders.insert(request, answer);
                self.event(CoreEvent::Adopt { request, build }, now_ms)
                    .await;
            }
            ActorCommand::View(answer) => {
                let history = &self.core.durable().history;
                let view = CoreView {
                    status: self.core.status(),
                    nodes: self.core.nodes(self.clock.now_ms()),
                    releases: history.iter().rev().cloned().collect(),
                    rollback_target: self.core.rollback_target(),
                };
                // Who asked may have left.
                let _ = answer.send(view);
            }
            ActorCommand::Needed(answer) => {
                let _ = answer.send(self.needed());
            }
        }
    }

    fn needed(&self) -> NeededBuilds {
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
        NeededBuilds {
            always: always.collect(),
            released: released.filter(|build| seen.insert(*build)).collect(),
        }
    }

    /// Gives one event to the core. When the disk refuses, the core is what it was before: the event has not happened.
    async fn event(&mut self, event: CoreEvent, now_ms: u64) {
        let undo = match &event {
            CoreEvent::NodeFrame {
                frame: FromNode::Heartbeat(_) | FromNode::DirectoryAck { .. },
                ..
            } => None, // Never persists, and comes often.
            _ => Some(self.core.clone()),
        };
        let (link, request) = match &event {
            CoreEvent::NodeHello { link, .. } => (Some(*link), None),
            CoreEvent::Order { request, .. } | CoreEvent::Adopt { request, .. } => {
                (None, Some(*request))
            }
            _ => (None, None),
        };
        let effects = self.core.step(event, now_ms);
        let Err(error) = self.perform(effects).await else {
            return;
        };
        tracing::error!(%error, "the Seed's state cannot be written, so an event is undone; free the disk of its data folder");
        if let Some(undo) = undo {
            self.core = undo;
        }
        if let Some(link) = link {
            self.close(link);
        }
        if let Some(answer) = request.and_then(|request| self.orders.remove(&request)) {
            let _ = answer.send(Err(OrderRefusal::Storage(error.to_string())));
        }
    }

    /// Runs effects in order. The disk comes first, so that an error means that nothing was done.
    async fn perform(&mut self, effects: Vec<CoreEffect>) -> Result<(), StoreError> {
        for effect in effects {
            match effect {
                CoreEffect::Persist(state) => {
                    self.on_disk(move |store| store.save_state(&state)).await?
                }
                CoreEffect::Remember(known) => {
                    if let Err(error) = self.on_disk(move |store| store.save_known(&known)).await {
                        tracing::warn!(%error, "the directory cannot be written down; after a restart the Seed waits for no node of it");
                    }
                }
                CoreEffect::Send { link, message } => {
                    self.send(link, link::encode(&message).into())
                }
                CoreEffect::Close { link, reason } => {
                    tracing::warn!(link, reason, "the Seed closes a node's link");
                    self.close(link);
                }
                CoreEffect::Accepted { request, release } => {
                    tracing::info!(%release, "a release order was accepted");
                    self.accepted(request);
                }
                CoreEffect::Refused { request, refusal } => {
                    tracing::info!(%refusal, "a release order was refused");
                    if let Some(answer) = self.orders.remove(&request) {
                        let _ = answer.send(Err(refusal));
                    }
                }
                CoreEffect::Emit(event) => self.emit(event),
                CoreEffect::Held(hold) => {
                    tracing::error!(%hold, "the Seed holds and orders nothing by itself: a node has a release that it does not know; push, roll back or adopt")
                }
            }
        }
        Ok(())
    }

    async fn on_disk(
        &self,
        write: impl FnOnce(&SeedStore) -> Result<(), StoreError> + Send + 'static,
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
            tracing::error!(
                link,
                bytes = frame.len(),
                "a message to a node is longer than a frame and was not sent"
            );
        } else if outbox.frames.try_send(frame).is_err() {
            tracing::warn!(link, "a node does not read its link, which is closed");
            // The link's reader ends, and says that the link is gone.
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
            tracing::info!(%release, %build, nodes = nodes.len(), "a release begins: its nodes prepare the build");
        }
        ReleaseEvent::Node(answer) => {
            tracing::info!(node = answer.node, answer = ?answer.answer, elapsed_ms = answer.elapsed_ms, "a node answered an order of a release");
        }
        ReleaseEvent::Activating { release } => {
            tracing::info!(%release, "all nodes of a release are prepared, and are told to activate")
        }
        ReleaseEvent::Finished(record) => {
            let reason = record.reason.as_deref().unwrap_or_default();
            tracing::info!(release = %record.release, outcome = ?record.outcome, reason, elapsed_ms = record.elapsed_ms, "a release ended");
        }
    }
}
