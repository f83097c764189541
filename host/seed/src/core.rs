//! The control plane as a pure state machine: events and the time come in, effects go out.
//!
//! No I/O, no clock, no task. The server around it runs the effects in order; a [`CoreEffect::Persist`] comes first
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

pub use durable::{ActiveBuild, CheckedBuild, Durable, FORMAT};

/// Number of one link of one node; a node that comes back has another.
pub type LinkId = u64;
/// Number of one release order, by which its answer finds the one who asked.
pub type RequestId = u64;

/// Most nodes that a Seed keeps, more than it is meant for. Another name takes the place of the one that has been gone
/// longest; when all are here, it is refused.
pub const NODES_MAX: usize = 4_096;
/// Milliseconds after which a node that is gone is forgotten: it is in no list any more, and its name makes room for
/// another. What it holds it says itself, when it comes back. A day, so that who looks for it in the morning still
/// sees it.
pub const AWAY_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Most children of a node, more than a node has cores; each has an address in the directory.
pub const CHILDREN_MAX: usize = 256;
/// Most bytes of a name or address of a node: all of them travel to every other.
pub const TEXT_BYTES_MAX: usize = 256;
/// Milliseconds after which a failed catch-up of a node is tried again.
pub const CATCH_UP_RETRY_MS: u64 = 10_000;
/// Milliseconds between two ticks that mean that the Seed itself stood still, and nobody's silence counts.
pub const TICK_GAP_MS_MAX: u64 = 1_000;
/// The highest sequence of a release. What is above is no Seed's work: one that released every millisecond would need
/// 285,000 years.
pub const SEQUENCE_MAX: u64 = (1 << 53) - 1;
/// Most epochs that a node may be ahead of its Seed. An epoch rises by one when an operator ends a hold, so an honest
/// node is ahead by as many as there were since the Seed's disk was copied. One node's word moves the next number no
/// further.
pub const EPOCH_AHEAD_MAX: u64 = 1_000;

/// Timeouts of a release, and the number of nodes that go at once.
#[derive(Clone, Copy, Debug)]
pub struct RolloutPlan {
    /// Milliseconds in which a node must answer `prepare`.
    pub prepare_timeout_ms: u64,
    /// Milliseconds in which a node must answer `activate`.
    pub activate_timeout_ms: u64,
    /// Most nodes of one wave. Every wave is prepared and activated before the next one begins.
    pub wave_nodes_max: usize,
}

/// Event that the state machine is told of.
#[derive(Clone, Debug)]
pub enum CoreEvent {
    /// A link began.
    NodeHello {
        /// Number of the link.
        link: LinkId,
        /// First message of the link.
        hello: Hello,
    },
    /// A link brought a further message.
    NodeFrame {
        /// Number of the link.
        link: LinkId,
        /// Message that the node sent.
        frame: FromNode,
    },
    /// A link ended.
    NodeGone {
        /// Number of the link.
        link: LinkId,
    },
    /// An operator orders a release.
    Order {
        /// Order that is to be answered.
        request: RequestId,
        /// A checked build, which the order is for.
        build: CheckedBuild,
        /// The build that must be active, if that matters.
        made_against: Option<Option<BuildId>>,
    },
    /// An operator orders that what the nodes run is the fleet's build.
    Adopt {
        /// Order that is to be answered.
        request: RequestId,
        /// A checked build, which the order is for.
        build: CheckedBuild,
    },
    /// Time passed, and deadlines may be over.
    Tick,
}

/// Effect of an event, for the server to run in order.
#[derive(Clone, Debug)]
pub enum CoreEffect {
    /// Write this state to disk before any effect that follows.
    Persist(Arc<Durable>),
    /// Write the directory down when convenient: who was here, for the time after a restart.
    Remember(Arc<Directory>),
    /// Send a message to a node.
    Send {
        /// Number of the link.
        link: LinkId,
        /// Message for the node.
        message: FromSeed,
    },
    /// End a link.
    Close {
        /// Number of the link.
        link: LinkId,
        /// Cause, for the log.
        reason: String,
    },
    /// An order was taken up; the release events that follow are its.
    Accepted {
        /// Order that this answers.
        request: RequestId,
        /// Release that the order became.
        release: ReleaseId,
    },
    /// An order was refused.
    Refused {
        /// Order that this answers.
        request: RequestId,
        /// Cause of the refusal.
        refusal: OrderRefusal,
    },
    /// Tell a release event to those who follow the running release.
    Emit(ReleaseEvent),
    /// The hold began: nothing is ordered from here on that no operator has asked for. For the log.
    Held(Hold),
}

/// Why an order was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefusal {
    /// Another release is going on, and only one can.
    #[error("release {running} is going on; wait until it has ended")]
    Busy {
        /// Release that is going on.
        running: ReleaseId,
    },
    /// Another build is active than the one that the order was made against.
    #[error("{}", conflict(.active, .made_against))]
    Conflict {
        /// Build that is active.
        active: Option<BuildId>,
        /// Build that the order supposed to be active.
        made_against: Option<BuildId>,
    },
    /// The Seed does not hold, so there is nothing to adopt.
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

/// A [`CoreEvent::Order`] that waits.
#[derive(Clone, Debug)]
struct PendingOrder {
    request: RequestId,
    build: CheckedBuild,
    made_against: Option<Option<BuildId>>,
}

/// The state machine. A clone is cheap: the history is shared until it changes.
#[derive(Clone)]
pub struct SeedCore {
    plan: RolloutPlan,
    durable: Arc<Durable>,
    dirty: bool,
    nodes: BTreeMap<String, fleet::FleetNode>,
    links: BTreeMap<LinkId, String>,
    rollout: Option<rollout::Rollout>,
    /// Orders that wait until the nodes that were here before a restart are back.
    waiting: VecDeque<PendingOrder>,
    directory: directory::DirectoryState,
    now_ms: u64,
    tick_ms: u64,
    out: Vec<CoreEffect>,
}

impl SeedCore {
    /// Starts from what the disk holds. `known` is the directory of when the Seed stopped: its nodes stay
    /// in it until they had time to come back, because an absent Seed says nothing about them, and keys where they are.
    pub fn new(
        plan: RolloutPlan,
        durable: Durable,
        known: Directory,
        now_ms: u64,
    ) -> (Self, Vec<CoreEffect>) {
        let mut core = Self {
            plan,
            durable: Arc::new(durable),
            dirty: false,
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            rollout: None,
            waiting: VecDeque::new(),
            directory: directory::DirectoryState::new(known, now_ms),
            now_ms,
            tick_ms: now_ms,
            out: Vec::new(),
        };
        core.end_interrupted();
        let effects = core.finish_step();
        (core, effects)
    }

    /// Takes one event, at a time that never runs backwards, and returns its effects.
    pub fn step(&mut self, event: CoreEvent, now_ms: u64) -> Vec<CoreEffect> {
        self.now_ms = self.now_ms.max(now_ms);
        match event {
            CoreEvent::NodeHello { link, hello } => self.hello(link, hello),
            CoreEvent::NodeFrame { link, frame } => self.frame(link, frame),
            CoreEvent::NodeGone { link } => self.gone(link),
            CoreEvent::Order {
                request,
                build,
                made_against,
            } => self.waiting.push_back(PendingOrder {
                request,
                build,
                made_against,
            }),
            CoreEvent::Adopt { request, build } => self.adopt(request, build),
            CoreEvent::Tick => self.tick(),
        }
        self.finish_step()
    }

    fn finish_step(&mut self) -> Vec<CoreEffect> {
        self.refresh_directory();
        self.send_left();
        while self.directory.is_settled()
            && let Some(order) = self.waiting.pop_front()
        {
            self.order(order);
        }
        let mut effects = std::mem::take(&mut self.out);
        if std::mem::take(&mut self.dirty) {
            effects.insert(0, CoreEffect::Persist(Arc::clone(&self.durable)));
        }
        effects
    }

    fn tick(&mut self) {
        let gap = self.now_ms.saturating_sub(self.tick_ms);
        self.tick_ms = self.now_ms;
        if gap > TICK_GAP_MS_MAX {
            self.discount_gap(gap);
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

    /// Gives write access to what must be persisted.
    fn change(&mut self) -> &mut Durable {
        self.dirty = true;
        Arc::make_mut(&mut self.durable)
    }

    fn send(&mut self, node: &str, message: FromSeed) {
        if let Some(link) = self.nodes.get(node).and_then(|node| node.link) {
            self.out.push(CoreEffect::Send { link, message });
        }
    }

    /// The state that the disk holds, or will once the effects so far have run.
    pub fn durable(&self) -> &Arc<Durable> {
        &self.durable
    }

    /// The latest time that the core was told.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The build that a rollback without a name goes to: the last promoted one that is not active.
    pub fn rollback_target(&self) -> Option<BuildId> {
        self.durable.rollback_target()
    }

    /// Status of the Seed, for `GET /v1/status`.
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

    /// Status of every node, for `GET /v1/nodes`.
    pub fn nodes(&self, now_ms: u64) -> Vec<NodeStatus> {
        self.nodes.values().map(|n| n.status(now_ms)).collect()
    }
}
