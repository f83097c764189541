//! Simulated nodes around a core, and the invariants that hold at every step.

use super::*;
use protoplex_wire::{
    directory::DirectoryFrame,
    link::{self, FRAME_BYTES_MAX},
    manifest::Role,
    status::Addresses,
};
use std::collections::{BTreeSet, VecDeque};

pub const PLAN: RolloutPlan = RolloutPlan {
    prepare_timeout_ms: 1_000,
    activate_timeout_ms: 500,
    wave_nodes_max: usize::MAX,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Well,
    NackPrepare,
    NackActivate,
    MutePrepare,
    MuteActivate,
    Dead,
}

/// A node that behaves as it should: refuses lower releases for ever, runs only what it has prepared.
pub struct SimNode {
    pub link: Option<LinkId>,
    pub behaviour: Behaviour,
    pub inbox: VecDeque<FromSeed>,
    pub seen: Vec<String>,
    fence: ReleaseId,
    fence_build: Option<BuildId>,
    prepared: BTreeMap<ReleaseId, BuildId>,
    held: BTreeSet<BuildId>,
    pub active: Option<BuildId>,
    /// The directory that the node has made of snapshots and changes.
    pub directory: Directory,
    /// Frames of a snapshot that is not complete yet.
    part: Directory,
    /// Whether the node reads the directory, but says nothing about it.
    pub silent: bool,
}

pub struct SimFleet {
    pub core: SeedCore,
    pub nodes: BTreeMap<String, SimNode>,
    pub now_ms: u64,
    pub refusals: Vec<OrderRefusal>,
    pub events: Vec<ReleaseEvent>,
    disk: Durable,
    known: Directory,
    links: u64,
    requests: u64,
}

pub fn build(name: &str) -> CheckedBuild {
    let id = Digest::of(name.as_bytes());
    CheckedBuild {
        id,
        name: name.to_owned(),
        envelope: Envelope {
            build: id,
            key_id: String::new(),
            sig: String::new(),
        },
    }
}

pub fn hello(name: &str) -> Hello {
    let (role, child_addresses) = role(name);
    Hello {
        node: name.to_owned(),
        role,
        host_version: "0".to_owned(),
        target: "sim".to_owned(),
        addresses: Addresses {
            http: format!("http://{name}"),
            ..Addresses::default()
        },
        children: 2,
        held: Vec::new(),
        active: None,
        release: ReleaseId::default(),
        release_build: None,
        region: String::new(),
        capacity: 0,
        child_addresses,
        children_ready: 0,
        leaving: false,
    }
}

/// Role of a node: names that begin with `live` are of live nodes, others of app nodes.
fn role(name: &str) -> (Role, Vec<String>) {
    match name.strip_prefix("live") {
        Some(_) => (
            Role::Live,
            (0..2)
                .map(|child| format!("http://{name}-{child}"))
                .collect(),
        ),
        None => (Role::App, Vec::new()),
    }
}

impl SimFleet {
    pub fn new(names: &[&str]) -> Self {
        let disk = Durable::new("00".repeat(32));
        let (core, _) = SeedCore::new(PLAN, disk.clone(), Directory::default(), 1_000);
        let mut fleet = Self {
            core,
            nodes: BTreeMap::new(),
            now_ms: 1_000,
            refusals: Vec::new(),
            events: Vec::new(),
            disk,
            known: Directory::default(),
            links: 0,
            requests: 0,
        };
        for name in names {
            fleet.join(name);
        }
        fleet
    }

    /// Makes a fleet that runs a build.
    pub fn running(names: &[&str], first: &str) -> Self {
        let mut fleet = Self::new(names);
        fleet.order(first, None);
        fleet.settle();
        fleet.all_run(first);
        fleet
    }

    pub fn event(&mut self, event: CoreEvent) {
        let effects = self.core.step(event, self.now_ms);
        self.run(effects);
    }

    fn run(&mut self, effects: Vec<CoreEffect>) {
        for (index, effect) in effects.into_iter().enumerate() {
            match effect {
                CoreEffect::Persist(durable) => {
                    assert_eq!(index, 0, "what depends on the disk comes after it");
                    let (old, new) = (self.disk.last(), durable.last());
                    assert!(new >= old, "the fence fell from {old} to {new}");
                    self.disk = (*durable).clone();
                }
                CoreEffect::Remember(known) => self.known = (*known).clone(),
                CoreEffect::Send { link, message } => self.receive(link, message),
                CoreEffect::Close { link, .. } => self.cut(link),
                CoreEffect::Accepted { .. } | CoreEffect::Held(_) => {}
                CoreEffect::Refused { refusal, .. } => self.refusals.push(refusal),
                CoreEffect::Emit(event) => self.events.push(event),
            }
        }
    }

    fn receive(&mut self, link: LinkId, message: FromSeed) {
        let last = self.disk.last();
        let node = self.nodes.values_mut().find(|node| node.link == Some(link));
        let Some(node) = node else {
            return;
        };
        if let FromSeed::Prepare { release, .. } | FromSeed::Activate { release, .. } = &message {
            assert!(*release <= last, "{release} was used before it was on disk");
        }
        match &message {
            FromSeed::Prepare { release, .. } => node.seen.push(format!("prepare {release}")),
            FromSeed::Activate { release, build } => {
                // The node may not have read its PREPARED's answer yet, but it must have sent one.
                assert_eq!(
                    node.prepared.get(release),
                    Some(build),
                    "not prepared there"
                );
                node.seen.push(format!("activate {release}"));
            }
            FromSeed::Abandon { release } => node.seen.push(format!("abandon {release}")),
            FromSeed::Directory(DirectoryFrame { version, .. }) => {
                assert!(*version >= node.directory.version, "an old directory");
            }
            FromSeed::Left => node.seen.push("left".to_owned()),
            FromSeed::DirectoryDelta(_) | FromSeed::Welcome { .. } => {}
        }
        let frame = link::encode(&message).len();
        assert!(frame <= FRAME_BYTES_MAX, "a frame of {frame} bytes");
        node.inbox.push_back(message);
    }

    fn cut(&mut self, link: LinkId) {
        for node in self.nodes.values_mut().filter(|n| n.link == Some(link)) {
            node.link = None;
            node.inbox.clear();
        }
    }

    pub fn join(&mut self, name: &str) {
        self.links += 1;
        let link = self.links;
        let node = self
            .nodes
            .entry(name.to_owned())
            .or_insert_with(|| SimNode {
                link: None,
                behaviour: Behaviour::Well,
                inbox: VecDeque::new(),
                seen: Vec::new(),
                fence: ReleaseId::default(),
                fence_build: None,
                prepared: BTreeMap::new(),
                held: BTreeSet::new(),
                active: None,
                directory: Directory::default(),
                part: Directory::default(),
                silent: false,
            });
        node.link = Some(link);
        node.inbox.clear();
        let hello = Hello {
            held: node.held.iter().copied().collect(),
            active: node.active,
            release: node.fence,
            release_build: node.fence_build,
            children_ready: if node.active.is_some() { 2 } else { 0 },
            ..hello(name)
        };
        self.event(CoreEvent::NodeHello { link, hello });
    }

    pub fn leave(&mut self, name: &str) {
        if let Some(node) = self.nodes.get_mut(name)
            && let Some(link) = node.link.take()
        {
            node.inbox.clear();
            self.event(CoreEvent::NodeGone { link });
        }
    }

    pub fn behave(&mut self, name: &str, behaviour: Behaviour) {
        self.nodes.get_mut(name).expect("a node").behaviour = behaviour;
    }

    pub fn order(&mut self, name: &str, made_against: Option<Option<BuildId>>) {
        self.requests += 1;
        self.event(CoreEvent::Order {
            request: self.requests,
            build: build(name),
            made_against,
        });
    }

    pub fn say(&mut self, name: &str, frame: FromNode) {
        if let Some(link) = self.nodes[name].link {
            self.event(CoreEvent::NodeFrame { link, frame });
        }
    }

    /// Lets the node read one message and answer it. Returns false when there was none.
    pub fn deliver(&mut self, name: &str) -> bool {
        let Some(node) = self.nodes.get_mut(name) else {
            return false;
        };
        while let Some(message) = node.inbox.pop_front() {
            if let Some(answer) = node.answer(message) {
                self.say(name, answer);
                return true;
            }
        }
        false
    }

    pub fn settle(&mut self) {
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        while names.iter().any(|name| self.deliver(name)) {}
    }

    /// Lets time go on, with heartbeats and answers.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += 100;
            let alive: Vec<_> = self
                .nodes
                .iter()
                .filter(|(_, node)| node.behaviour != Behaviour::Dead && node.link.is_some())
                .map(|(name, _)| name.clone())
                .collect();
            for name in alive {
                self.say(
                    &name,
                    FromNode::Heartbeat(Heartbeat {
                        children_ready: 2,
                        ..Heartbeat::default()
                    }),
                );
            }
            self.event(CoreEvent::Tick);
            self.settle();
        }
    }

    pub fn restart_without_nodes(&mut self) {
        self.now_ms += 100;
        let (core, effects) =
            SeedCore::new(PLAN, self.disk.clone(), self.known.clone(), self.now_ms);
        self.core = core;
        self.nodes.values_mut().for_each(|node| {
            node.link = None;
            node.inbox.clear();
        });
        self.run(effects);
    }

    /// Starts the Seed again, as one that stopped with this directory.
    pub fn know(&mut self, known: Directory) {
        self.known = known;
        self.restart_without_nodes();
    }

    pub fn restart(&mut self) {
        self.restart_without_nodes();
        for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.join(&name);
        }
    }

    pub fn lose_data(&mut self) {
        self.disk = Durable::new("00".repeat(32));
        self.known = Directory::default();
        self.restart();
    }

    /// Copies the Seed's disk, as an operator might.
    pub fn copy(&self) -> Durable {
        self.disk.clone()
    }

    /// Starts the Seed from an older copy of its disk. No node is back yet.
    pub fn disk_is(&mut self, copy: &Durable) {
        self.disk = copy.clone();
        self.known = Directory::default();
        self.restart_without_nodes();
    }

    /// Starts the Seed from an older copy of its disk, and all nodes come back.
    pub fn restore(&mut self, copy: &Durable) {
        self.disk = copy.clone();
        self.restart();
    }

    pub fn adopt(&mut self, name: &str) {
        self.requests += 1;
        self.event(CoreEvent::Adopt {
            request: self.requests,
            build: build(name),
        });
    }

    pub fn orders(&self, name: &str) -> Vec<String> {
        self.nodes[name].seen.clone()
    }

    /// Number of members that the node knows of, once it has read what came.
    pub fn directory(&mut self, name: &str) -> usize {
        self.settle();
        self.nodes[name].directory.members.len()
    }

    pub fn last_record(&self) -> protoplex_wire::status::ReleaseRecord {
        self.disk.history.last().expect("a release").clone()
    }

    pub fn last_outcome(&self) -> ReleaseOutcome {
        self.last_record().outcome
    }

    pub fn all_hold(&self, name: &str) {
        for (node, state) in &self.nodes {
            assert_eq!(
                state.active,
                Some(build(name).id),
                "{node} should run {name}"
            );
        }
    }

    pub fn all_run(&self, name: &str) {
        self.all_hold(name);
        assert_eq!(self.core.status().active, Some(build(name).id));
        assert_eq!(self.core.status().running, None);
    }
}

impl SimNode {
    fn answer(&mut self, message: FromSeed) -> Option<FromNode> {
        let nack = |release, stage| {
            Some(FromNode::Nack {
                release,
                stage,
                reason: "as told".to_owned(),
                elapsed_ms: 1,
            })
        };
        match message {
            FromSeed::Prepare { release, build, .. } => {
                let is_another = self.fence_build.is_some_and(|other| other != build);
                if release < self.fence || (release == self.fence && is_another) {
                    return nack(release, Stage::Protocol);
                }
                (self.fence, self.fence_build) = (release, Some(build));
                match self.behaviour {
                    Behaviour::NackPrepare => nack(release, Stage::Compile),
                    Behaviour::MutePrepare | Behaviour::Dead => None,
                    _ => {
                        self.prepared.insert(release, build);
                        self.held.insert(build);
                        Some(FromNode::Prepared {
                            release,
                            elapsed_ms: 1,
                        })
                    }
                }
            }
            FromSeed::Activate { release, build } => {
                if release < self.fence || self.prepared.get(&release) != Some(&build) {
                    return nack(release, Stage::Protocol);
                }
                match self.behaviour {
                    Behaviour::NackActivate
                        if self.active.is_some_and(|active| active != build) =>
                    {
                        nack(release, Stage::WarmUp)
                    }
                    Behaviour::MuteActivate | Behaviour::Dead => None,
                    _ => {
                        self.active = Some(build);
                        Some(FromNode::Ack {
                            release,
                            elapsed_ms: 1,
                        })
                    }
                }
            }
            FromSeed::Directory(DirectoryFrame {
                version,
                members,
                slots,
                more,
            }) => {
                self.part.members.extend(members);
                if more {
                    return None;
                }
                self.directory = Directory {
                    version,
                    members: std::mem::take(&mut self.part.members),
                    slots: slots.try_into().expect("a table"),
                };
                self.acknowledge()
            }
            FromSeed::DirectoryDelta(delta) => match self.directory.apply(&delta) {
                Ok(()) => self.acknowledge(),
                Err(_) => Some(FromNode::DirectoryWanted {
                    held: self.directory.version,
                }),
            },
            _ => None,
        }
    }

    fn acknowledge(&self) -> Option<FromNode> {
        let version = self.directory.version;
        (!self.silent && self.behaviour != Behaviour::Dead)
            .then_some(FromNode::DirectoryAck { version })
    }
}
