//! The control plane as a pure state machine: events and the time come in, effects go out.
//!
//! No I/O, no clock, no task. The server around it runs the effects in order; a [`Effect::Persist`] comes first
//! in its list, and nothing after it may happen before it is on disk. Whoever runs the effects keeps the core of
//! before an event, and goes back to it when the disk refuses: then the event has not happened.

use protoplex_wire::{
    BuildId, ReleaseId,
    directory::Directory,
    link::{FromNode, FromSeed, Hello},
    status::{Hold, NodeStatus, ReleaseEvent, SeedStatus},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

mod directory;
mod durable;
mod fleet;
mod hold;
mod placement;
mod rollout;
#[cfg(test)]
mod tests;

pub use durable::{Active, Build, Durable, FORMAT};

/// One link of one node; a node that comes back has another.
pub type LinkId = u64;
/// One release order, so that its answer finds the one who asked.
pub type RequestId = u64;

/// More nodes than one Seed is meant for. Another name takes the place of the one that has been gone longest; when all
/// are here, it is refused.
pub const NODES_MAX: usize = 4_096;
/// A node that has been gone for so long is forgotten: it is in no list any more, and its name makes room for another.
/// What it holds it says itself, when it comes back. A day, so that who looks for it in the morning still sees it.
pub const AWAY_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// More children than one node has cores; each has an address in the directory.
pub const CHILDREN_MAX: usize = 256;
/// Longer than any name or address of a node: all of them travel to every other.
pub const TEXT_BYTES_MAX: usize = 256;
/// A node whose catch-up failed is tried again after this long.
pub const CATCH_UP_RETRY_MS: u64 = 10_000;
/// Ticks further apart mean that the Seed itself stood still, and nobody's silence counts.
pub const TICK_GAP_MS_MAX: u64 = 1_000;
/// The highest sequence of a release. What is above is no Seed's work: one that released every millisecond would need
/// 285,000 years.
pub const SEQUENCE_MAX: u64 = (1 << 53) - 1;
/// Epochs that a node may be ahead of its Seed. An epoch rises by one when an operator ends a hold, so an honest node
/// is ahead by as many as there were since the Seed's disk was copied. One node's word moves the next number no further.
pub const EPOCH_AHEAD_MAX: u64 = 1_000;

/// Timeouts of a release, and the number of nodes that go at once.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// For `prepare`.
    pub prepare_timeout_ms: u64,
    /// For `activate`.
    pub activate_timeout_ms: u64,
    /// Nodes of one wave. Every wave is prepared and activated before the next one begins.
    pub wave_nodes_max: usize,
}

/// An event.
#[derive(Clone, Debug)]
pub enum Event {
    /// A link began with this.
    NodeHello {
        /// The link.
        link: LinkId,
        /// First line of the link.
        hello: Hello,
    },
    /// A link brought a further message.
    NodeFrame {
        /// The link.
        link: LinkId,
        /// The message.
        frame: FromNode,
    },
    /// A link ended.
    NodeGone {
        /// The link.
        link: LinkId,
    },
    /// An operator orders a release.
    Order {
        /// Where the answer goes.
        request: RequestId,
        /// A checked build.
        build: Build,
        /// The build that must be active, if that matters.
        made_against: Option<Option<BuildId>>,
    },
    /// An operator orders that what the nodes run is the fleet's build.
    Adopt {
        /// Where the answer goes.
        request: RequestId,
        /// A checked build.
        build: Build,
    },
    /// Time passed.
    Tick,
}

/// An effect: to be done in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write this to disk before anything that follows.
    Persist(Arc<Durable>),
    /// Write this down when convenient: who was here, for the directory after a restart.
    Remember(Arc<Directory>),
    /// Send a message.
    Send {
        /// The link.
        link: LinkId,
        /// The message.
        message: FromSeed,
    },
    /// End a link.
    Close {
        /// The link.
        link: LinkId,
        /// Why, for the log.
        reason: String,
    },
    /// An order was taken up; the events that follow are its.
    Accepted {
        /// The order that this answers.
        request: RequestId,
        /// The release it became.
        release: ReleaseId,
    },
    /// An order was not.
    Refused {
        /// The order that this answers.
        request: RequestId,
        /// Why.
        refusal: Refusal,
    },
    /// Tell those who follow the running release.
    Emit(ReleaseEvent),
    /// Nothing is ordered from here on that no operator has asked for. For the log.
    Held(Hold),
}

/// Why an order was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// One at a time.
    #[error("release {running} is going on; wait until it has ended")]
    Busy {
        /// The one that is going on.
        running: ReleaseId,
    },
    /// Somebody else was faster.
    #[error("{}", conflict(.active, .made_against))]
    Conflict {
        /// Build that is active.
        active: Option<BuildId>,
        /// Build that the order supposed to be active.
        made_against: Option<BuildId>,
    },
    /// There is nothing to adopt.
    #[error("the Seed holds nothing back, and runs what it ordered; there is nothing to adopt")]
    NotHeld,
    /// No node runs the build, so it is not adopted.
    #[error("no node that is here runs build {0}; `protoplex nodes` says what they run")]
    NotRunning(BuildId),
    /// The order could not be written down, so it was not begun.
    #[error("the Seed cannot write to its disk, so nothing was begun: {0}")]
    Storage(String),
}

fn conflict(active: &Option<BuildId>, made_against: &Option<BuildId>) -> String {
    let name = |build: &Option<BuildId>| match build {
        Some(build) => format!("build {build}"),
        None => "no build".to_owned(),
    };
    format!(
        "{} is active, but this order was made against {}; look at what changed, then order again",
        name(active),
        name(made_against)
    )
}

/// [`Event::Order`].
#[derive(Clone, Debug)]
struct Order {
    request: RequestId,
    build: Build,
    made_against: Option<Option<BuildId>>,
}

/// The state machine. A clone is cheap: the history is shared until it changes.
#[derive(Clone)]
pub struct Core {
    plan: Plan,
    durable: Arc<Durable>,
    dirty: bool,
    nodes: BTreeMap<String, fleet::Node>,
    links: BTreeMap<LinkId, String>,
    rollout: Option<rollout::Rollout>,
    /// Orders that came while the nodes of before a restart were still on their way back.
    waiting: VecDeque<Order>,
    directory: directory::State,
    now_ms: u64,
    tick_ms: u64,
    out: Vec<Effect>,
}

impl Core {
    /// Starts from what the disk holds. `known` is the directory of when the Seed stopped: its nodes stay
    /// in it until they had time to come back, because an absent Seed says nothing about them, and keys where they are.
    pub fn new(plan: Plan, durable: Durable, known: Directory, now_ms: u64) -> (Self, Vec<Effect>) {
        let mut core = Self {
            plan,
            durable: Arc::new(durable),
            dirty: false,
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            rollout: None,
            waiting: VecDeque::new(),
            directory: directory::State::new(known, now_ms),
            now_ms,
            tick_ms: now_ms,
            out: Vec::new(),
        };
        core.end_interrupted();
        let effects = core.finish_step();
        (core, effects)
    }

    /// One event, at a time that never runs backwards.
    pub fn step(&mut self, event: Event, now_ms: u64) -> Vec<Effect> {
        self.now_ms = self.now_ms.max(now_ms);
        match event {
            Event::NodeHello { link, hello } => self.hello(link, hello),
            Event::NodeFrame { link, frame } => self.frame(link, frame),
            Event::NodeGone { link } => self.gone(link),
            Event::Order {
                request,
                build,
                made_against,
            } => self.waiting.push_back(Order {
                request,
                build,
                made_against,
            }),
            Event::Adopt { request, build } => self.adopt(request, build),
            Event::Tick => self.tick(),
        }
        self.finish_step()
    }

    fn finish_step(&mut self) -> Vec<Effect> {
        self.refresh_directory();
        self.let_go();
        while self.directory.is_settled()
            && let Some(order) = self.waiting.pop_front()
        {
            self.order(order);
        }
        let mut effects = std::mem::take(&mut self.out);
        if std::mem::take(&mut self.dirty) {
            effects.insert(0, Effect::Persist(Arc::clone(&self.durable)));
        }
        effects
    }

    fn tick(&mut self) {
        let gap = self.now_ms.saturating_sub(self.tick_ms);
        self.tick_ms = self.now_ms;
        if gap > TICK_GAP_MS_MAX {
            self.forgive(gap);
        }
        self.silence();
        self.catch_up_deadlines();
        self.rollout_deadline();
        self.forget_long_gone();
        if self.rollout.is_none() {
            self.sweep();
        }
    }

    /// A Seed that stopped in the middle of a release has reverted it: nodes that switched are told to go back,
    /// by a release that is above the one they took.
    fn end_interrupted(&mut self) {
        if !self.durable.history.iter().any(durable::is_running) {
            return;
        }
        let durable = self.change();
        durable.end_running("the Seed stopped while this release was going on");
        durable.renew_active();
    }

    /// Write access to what must be persisted.
    fn change(&mut self) -> &mut Durable {
        self.dirty = true;
        Arc::make_mut(&mut self.durable)
    }

    fn send(&mut self, node: &str, message: FromSeed) {
        if let Some(link) = self.nodes.get(node).and_then(|node| node.link) {
            self.out.push(Effect::Send { link, message });
        }
    }

    /// The state that the disk holds, or will once the effects so far have run.
    pub fn durable(&self) -> &Arc<Durable> {
        &self.durable
    }

    /// The latest time that it was told.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The build that a rollback without a name goes to: the last promoted one that is not active.
    pub fn rollback_target(&self) -> Option<BuildId> {
        self.durable.rollback_target()
    }

    /// `GET /v1/status`.
    pub fn status(&self) -> SeedStatus {
        SeedStatus {
            host_version: env!("CARGO_PKG_VERSION").to_owned(),
            active: self.durable.active_build(),
            release: self.durable.last(),
            running: self.rollout.as_ref().map(|rollout| rollout.release),
            nodes_connected: self.links.len().try_into().unwrap_or(u32::MAX),
            hold: self.durable.hold.clone(),
        }
    }

    /// `GET /v1/nodes`.
    pub fn nodes(&self, now_ms: u64) -> Vec<NodeStatus> {
        self.nodes.values().map(|n| n.status(now_ms)).collect()
    }
}
