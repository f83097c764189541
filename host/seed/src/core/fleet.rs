//! Nodes that have a link or had one, and bringing a node that fell behind to the active build.

use super::{
    AWAY_MS_MAX, CATCH_UP_RETRY_MS, CHILDREN_MAX, CoreEffect, LinkId, NODES_MAX, SeedCore,
    TEXT_BYTES_MAX, durable::CheckedBuild,
};
use protoplex_wire::{
    BuildId, ReleaseId,
    directory::is_region,
    link::{FromNode, FromSeed, Heartbeat, Hello, SILENCE_MS_MAX},
    release::Stage,
    status::{Addresses, NodeStatus},
};

/// Builds that a node keeps loaded: the active one, two before it, and one that is prepared.
const BUILDS_LOADED_MAX: usize = 4;

/// A node that has a link or had one.
#[derive(Clone)]
pub(super) struct FleetNode {
    /// First message of the node's link, in which `active` and `release` are kept up to date.
    pub hello: Hello,
    pub link: Option<LinkId>,
    heard_ms: u64,
    beat: Heartbeat,
    /// The highest release that the node was told of: it refuses lower ones.
    pub fence: ReleaseId,
    /// Builds that the node prepared or switched to on its link, newest first, and the one that it came with: it
    /// answers requests of those.
    loaded: Vec<BuildId>,
    /// An order outside of the rollout's two phases.
    pub task: Option<NodeTask>,
    retry_ms: u64,
    /// Version of the directory that was sent last on the node's link; 0 is none.
    pub told: u64,
    /// Version of the directory that the node acknowledged last.
    pub acked: u64,
}

/// An order to a single node, outside of the rollout's two phases, to run a build.
#[derive(Clone)]
pub(super) struct NodeTask {
    pub release: ReleaseId,
    build: CheckedBuild,
    activating: bool,
    deadline_ms: u64,
}

/// Failure of an order to one node.
pub(super) struct TaskFailure {
    pub stage: Option<Stage>,
    pub reason: String,
    pub elapsed_ms: u64,
}

impl FleetNode {
    pub(super) fn status(&self, now_ms: u64) -> NodeStatus {
        NodeStatus {
            node: self.hello.node.clone(),
            role: self.hello.role,
            connected: self.link.is_some(),
            addresses: self.hello.addresses.clone(),
            host_version: self.hello.host_version.clone(),
            children: self.hello.children,
            children_ready: self.beat.children_ready,
            active: self.hello.active,
            heartbeat_age_ms: now_ms.saturating_sub(self.heard_ms),
            requests: self.beat.requests,
            errors: self.beat.errors,
            traps: self.beat.traps,
            region: self.hello.region.clone(),
            child_addresses: self.hello.child_addresses.clone(),
            leaving: self.link.is_some() && self.hello.leaving,
            fault: self.beat.fault.clone(),
        }
    }

    pub(super) fn serves(&self) -> bool {
        self.link.is_some() && self.hello.active.is_some() && self.beat.children_ready > 0
    }

    /// Whether the node answers requests that another node routed by this build.
    pub(super) fn holds(&self, build: BuildId) -> bool {
        self.loaded.contains(&build)
    }

    /// The node was told to forget a build that it prepared and does not run.
    pub(super) fn forgot(&mut self, build: BuildId) {
        if self.hello.active != Some(build) {
            self.loaded.retain(|other| *other != build);
        }
    }

    /// Notes a PREPARED: every child has loaded the build.
    fn prepared(&mut self, build: BuildId) {
        self.loaded.retain(|other| *other != build);
        self.loaded.insert(0, build);
        self.loaded.truncate(BUILDS_LOADED_MAX);
    }

    /// Notes an ACK: every child runs the build.
    pub(super) fn switched(&mut self, release: ReleaseId, build: BuildId) {
        self.hello.active = Some(build);
        self.prepared(build);
        self.hello.release = release;
        self.beat.children_ready = self.beat.children_ready.max(self.hello.children);
    }
}

impl SeedCore {
    pub(super) fn hello(&mut self, link: LinkId, hello: Hello) {
        if let Err(reason) = self.admit(&hello) {
            self.out.push(CoreEffect::Close { link, reason });
            return;
        }
        let name = hello.node.clone();
        if self.nodes.len() >= NODES_MAX
            && !self.nodes.contains_key(&name)
            && let Some(gone) = self.longest_gone()
        {
            self.nodes.remove(&gone);
        }
        if let Some(old) = self.nodes.get(&name).and_then(|node| node.link) {
            let reason = "the node opened another link".to_owned();
            self.out.push(CoreEffect::Close { link: old, reason });
            self.gone(old);
        }
        self.directory.came_back(&name);
        self.links.insert(link, name.clone());
        if self.is_ahead(&hello) {
            self.begin_hold(&hello);
        }
        let node = FleetNode {
            link: Some(link),
            heard_ms: self.now_ms,
            beat: Heartbeat {
                children_ready: hello.children_ready,
                ..Heartbeat::default()
            },
            fence: hello.release,
            loaded: hello.active.into_iter().collect(),
            task: None,
            retry_ms: self.now_ms,
            told: 0,
            acked: 0,
            hello,
        };
        let behind = self.durable.active.as_ref().is_some_and(|active| {
            node.hello.active != Some(active.build.id) || node.hello.release < active.release
        });
        let leaving = node.hello.leaving;
        self.nodes.insert(name.clone(), node);
        if leaving {
            self.leaving(&name);
        }
        let hop_key = self.durable.hop_key.clone();
        self.send(&name, FromSeed::Welcome { hop_key });
        if !self.rejoin_rollout(&name) && behind {
            self.catch_up(&name);
        }
    }

    fn admit(&self, hello: &Hello) -> Result<(), String> {
        self.check_release(hello.release)?;
        let is_new = !self.nodes.contains_key(&hello.node);
        if is_new && self.nodes.len() >= NODES_MAX && self.longest_gone().is_none() {
            return Err(format!("there are {NODES_MAX} nodes already"));
        }
        let count = hello.child_addresses.len();
        if count > CHILDREN_MAX {
            return Err(format!(
                "{count} addresses of children; {CHILDREN_MAX} is the most"
            ));
        }
        let Addresses {
            http,
            https,
            health,
            meta,
            internal,
        } = &hello.addresses;
        let texts = [&hello.node, http, https, health, meta, internal];
        let mut texts = texts.into_iter().chain(&hello.child_addresses);
        if let Some(long) = texts.find(|text| text.len() > TEXT_BYTES_MAX) {
            let bytes = long.len();
            return Err(format!(
                "a name or address of {bytes} bytes; {TEXT_BYTES_MAX} is the most"
            ));
        }
        if !is_region(&hello.region) {
            return Err("a region is at most 64 of a-z, 0-9 and `-`".to_owned());
        }
        Ok(())
    }

    pub(super) fn frame(&mut self, link: LinkId, frame: FromNode) {
        let Some(name) = self.links.get(&link).cloned() else {
            return; // A link that was closed here may still have had something to say.
        };
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&name) else {
            return;
        };
        node.heard_ms = now_ms;
        match frame {
            FromNode::Heartbeat(beat) => {
                let served = node.serves();
                node.beat = beat;
                if served != node.serves() {
                    self.directory.stale = true;
                }
            }
            FromNode::Hello(hello) => {
                // Said again on the same link: something about the node changed, its orders did not.
                let is_same = (&hello.node, hello.role) == (&name, node.hello.role);
                let admitted = match is_same {
                    true => self.admit(&hello),
                    false => Err("a link is one node's, of one role".to_owned()),
                };
                if let Err(reason) = admitted {
                    self.out.push(CoreEffect::Close { link, reason });
                    self.gone(link);
                } else if let Some(node) = self.nodes.get_mut(&name) {
                    node.hello.addresses = hello.addresses;
                    node.hello.children = hello.children;
                    node.hello.held = hello.held;
                    self.directory.stale = true;
                }
            }
            FromNode::DirectoryAck { version } => node.acked = version,
            FromNode::DirectoryWanted { .. } => {
                node.told = 0;
                self.directory.mark_untold();
            }
            FromNode::Leaving => {
                self.leaving(&name);
                self.rollout_without(&name);
            }
            FromNode::Prepared {
                release,
                elapsed_ms,
            } => {
                if !self.task_prepared(&name, release) {
                    self.rollout_prepared(&name, release, elapsed_ms);
                }
            }
            FromNode::Ack {
                release,
                elapsed_ms,
            } => {
                self.directory.stale = true;
                self.task_acked(&name, release);
                self.rollout_acked(&name, release, elapsed_ms);
            }
            FromNode::Nack {
                release,
                stage,
                reason,
                elapsed_ms,
            } => {
                let failure = TaskFailure {
                    stage: Some(stage),
                    reason,
                    elapsed_ms,
                };
                self.end_task(&name, release);
                self.rollout_failed(&name, release, failure);
            }
        }
    }

    pub(super) fn gone(&mut self, link: LinkId) {
        let Some(name) = self.links.remove(&link) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(&name) {
            node.link = None;
            node.task = None;
        }
        self.directory.gone(&name);
        self.rollout_left(&name);
    }

    /// Whether a node may be forgotten: it has no link, and what it has taken is below what the next order will be.
    fn is_forgettable(&self, node: &FleetNode) -> bool {
        node.link.is_none() && node.fence <= self.durable.last()
    }

    fn longest_gone(&self) -> Option<String> {
        let gone = self.nodes.iter().filter(|(_, n)| self.is_forgettable(n));
        let longest = gone.min_by_key(|(_, node)| node.heard_ms);
        longest.map(|(name, _)| name.clone())
    }

    /// Forgets nodes that have left for good: there would be no room for others some day.
    pub(super) fn forget_long_gone(&mut self) {
        let oldest_ms = self.now_ms.saturating_sub(AWAY_MS_MAX);
        let is_long_gone =
            |node: &FleetNode| node.heard_ms < oldest_ms && self.is_forgettable(node);
        let names = self.nodes.iter().filter(|(_, node)| is_long_gone(node));
        for name in names.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.nodes.remove(&name);
        }
    }

    pub(super) fn discount_gap(&mut self, gap_ms: u64) {
        for node in self.nodes.values_mut() {
            node.heard_ms += gap_ms;
        }
    }

    pub(super) fn silence(&mut self) {
        let now_ms = self.now_ms;
        let silent = |node: &FleetNode| now_ms.saturating_sub(node.heard_ms) > SILENCE_MS_MAX;
        let links: Vec<_> = self
            .nodes
            .values()
            .filter(|n| silent(n))
            .filter_map(|n| n.link)
            .collect();
        for link in links {
            let reason = format!("nothing heard for {SILENCE_MS_MAX} ms");
            self.out.push(CoreEffect::Close { link, reason });
            self.gone(link);
        }
    }

    /// Brings every node that does not run the active build to it.
    pub(super) fn sweep(&mut self) {
        if self.holds() {
            return;
        }
        let Some(active) = self.durable.active_build() else {
            return;
        };
        let now_ms = self.now_ms;
        let behind = |node: &FleetNode| {
            node.link.is_some() && node.hello.active != Some(active) && node.retry_ms <= now_ms
        };
        let names: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| behind(node))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.catch_up(&name);
        }
    }

    /// Orders one node to run the active build, outside of any rollout.
    pub(super) fn catch_up(&mut self, name: &str) {
        if self.holds() {
            return;
        }
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        let Some(active) = &self.durable.active else {
            return;
        };
        if node
            .task
            .as_ref()
            .is_some_and(|task| task.release >= active.release)
        {
            return;
        }
        if node.fence > active.release {
            if self.rollout.is_some() {
                return; // A number above the running release would fence it off; the end of it sweeps.
            }
            self.change().renew_active();
        }
        self.start_active_task(name);
    }

    /// Orders one node to prepare the active build, and then to activate it.
    pub(super) fn start_active_task(&mut self, name: &str) {
        if let Some(active) = self.durable.active.clone() {
            self.start_task(name, active.release, active.build);
        }
    }

    pub(super) fn start_task(&mut self, name: &str, release: ReleaseId, build: CheckedBuild) {
        let deadline_ms = self.now_ms + self.plan.prepare_timeout_ms;
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        node.task = Some(NodeTask {
            release,
            build: build.clone(),
            activating: false,
            deadline_ms,
        });
        self.order_prepare(name, release, &build);
    }

    pub(super) fn order_prepare(&mut self, name: &str, release: ReleaseId, build: &CheckedBuild) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.fence = node.fence.max(release);
        }
        let message = FromSeed::Prepare {
            release,
            build: build.id,
            envelope: build.envelope.clone(),
        };
        self.send(name, message);
    }

    fn task_prepared(&mut self, name: &str, release: ReleaseId) -> bool {
        let deadline_ms = self.now_ms + self.plan.activate_timeout_ms;
        let Some(task) = self.task_of(name, release).filter(|task| !task.activating) else {
            return false;
        };
        task.activating = true;
        task.deadline_ms = deadline_ms;
        let build = task.build.id;
        self.has_prepared(name, build);
        self.send(name, FromSeed::Activate { release, build });
        true
    }

    /// Notes that a node has prepared a build: where it lacked the build of the others, the directory may have it now.
    pub(super) fn has_prepared(&mut self, name: &str, build: BuildId) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.prepared(build);
            self.directory.stale = true;
        }
    }

    fn task_acked(&mut self, name: &str, release: ReleaseId) {
        let Some(task) = self.task_of(name, release).filter(|task| task.activating) else {
            return;
        };
        let build = task.build.id;
        if let Some(node) = self.nodes.get_mut(name) {
            node.task = None;
            node.switched(release, build);
        }
    }

    fn task_of(&mut self, name: &str, release: ReleaseId) -> Option<&mut NodeTask> {
        let task = self.nodes.get_mut(name)?.task.as_mut()?;
        (task.release == release).then_some(task)
    }

    /// Ends a failed task of a node, which is tried again after [`CATCH_UP_RETRY_MS`].
    fn end_task(&mut self, name: &str, release: ReleaseId) {
        let retry_ms = self.now_ms + CATCH_UP_RETRY_MS;
        if self.task_of(name, release).is_some()
            && let Some(node) = self.nodes.get_mut(name)
        {
            node.task = None;
            node.retry_ms = retry_ms;
        }
    }

    pub(super) fn catch_up_deadlines(&mut self) {
        let now_ms = self.now_ms;
        let late = |node: &FleetNode| {
            node.task
                .as_ref()
                .filter(|t| t.deadline_ms <= now_ms)
                .map(|t| t.release)
        };
        let names: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|(name, node)| Some((name.clone(), late(node)?)))
            .collect();
        for (name, release) in names {
            self.end_task(&name, release);
            let failure = TaskFailure {
                stage: None,
                reason: "it did not answer in time".to_owned(),
                elapsed_ms: self.plan.prepare_timeout_ms,
            };
            self.rollout_failed(&name, release, failure);
        }
    }
}
