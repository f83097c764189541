//! The directory: who serves and where keys are placed, who was told of the version, and the ordered leaving of a
//! node.

use super::{CoreEffect, LinkId, SeedCore, fleet::FleetNode, placement};
use protoplex_wire::{
    directory::{Delta, Directory, DirectoryFrame, Member, Placed},
    link::{self, FRAME_BYTES_MAX, FromSeed, LEAVE_MS_MAX, SILENCE_MS_MAX},
    manifest::Role,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Most bytes of members in one frame of a snapshot: half a frame, which leaves room for the slots.
const MEMBERS_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;

/// The current directory, and what is needed to make the next version and tell it.
#[derive(Clone)]
pub(super) struct DirectoryState {
    current: Arc<Directory>,
    /// Changes that led to the current version.
    delta: Option<Arc<Delta>>,
    /// Nodes from before the Seed's restart that have not come back yet.
    remembered: BTreeMap<String, Member>,
    remembered_until_ms: u64,
    /// Whether something happened that may change the directory.
    pub stale: bool,
    /// Whether somebody has not been told of the current version.
    untold: bool,
    leaves: BTreeMap<String, LeavingNode>,
}

/// A node that is about to drain.
#[derive(Clone)]
struct LeavingNode {
    /// The first version in which the node is cordoned.
    version: Option<u64>,
    deadline_ms: u64,
}

impl DirectoryState {
    /// Starts from the directory that was remembered. The version starts at the clock, so that it rises over restarts
    /// even where the old one is lost.
    pub(super) fn new(known: Directory, now_ms: u64) -> Self {
        let current = Directory {
            version: now_ms.max(known.version + 1),
            ..known
        };
        Self {
            remembered: current.members.clone(),
            remembered_until_ms: now_ms + SILENCE_MS_MAX,
            current: Arc::new(current),
            delta: None,
            stale: false,
            untold: false,
            leaves: BTreeMap::new(),
        }
    }

    /// Whether no node from before the Seed's restart is still on the way back: who is not here now is not waited for.
    pub(super) fn is_settled(&self) -> bool {
        self.remembered.is_empty()
    }

    pub(super) fn came_back(&mut self, name: &str) {
        self.remembered.remove(name);
        self.stale = true;
        self.untold = true;
    }

    pub(super) fn gone(&mut self, name: &str) {
        self.leaves.remove(name);
        self.stale = true;
    }

    /// Notes that a node needs the whole directory again.
    pub(super) fn mark_untold(&mut self) {
        self.untold = true;
    }

    /// The whole directory, in frames of which only the last says that it is all.
    fn snapshot(&self) -> Vec<FromSeed> {
        let frame = |members, last: bool| {
            FromSeed::Directory(DirectoryFrame {
                version: self.current.version,
                members,
                slots: match last {
                    true => self.current.slots.clone().into(),
                    false => Placed::new(),
                },
                more: !last,
            })
        };
        let (mut frames, mut members, mut bytes) = (Vec::new(), BTreeMap::new(), 0);
        for (name, member) in &self.current.members {
            let more = link::encode(&(name, member)).len();
            if bytes + more > MEMBERS_BYTES_MAX {
                frames.push(frame(std::mem::take(&mut members), false));
                bytes = 0;
            }
            bytes += more;
            members.insert(name.clone(), member.clone());
        }
        frames.push(frame(members, true));
        frames
    }

    /// Frames for a node that has been told of `told`.
    fn frames(&self, told: u64) -> Vec<FromSeed> {
        match &self.delta {
            Some(delta) if delta.from == told => {
                vec![FromSeed::DirectoryDelta(Delta::clone(delta))]
            }
            _ => self.snapshot(),
        }
    }
}

fn member(node: &FleetNode) -> Member {
    let hello = &node.hello;
    let capacity = match hello.capacity {
        0 => hello.children,
        capacity => capacity,
    };
    Member {
        role: hello.role,
        region: hello.region.clone(),
        addresses: hello.addresses.clone(),
        child_addresses: hello.child_addresses.clone(),
        capacity: capacity.max(1),
        cordoned: hello.leaving,
    }
}

impl SeedCore {
    #[cfg(test)]
    pub(super) fn directory_now(&self) -> &Directory {
        &self.directory.current
    }

    /// Makes the next version when the healthy nodes changed, and tells everybody who has not been told.
    pub(super) fn refresh_directory(&mut self) {
        let state = &mut self.directory;
        if self.now_ms >= state.remembered_until_ms && !state.remembered.is_empty() {
            state.remembered.clear();
            state.stale = true;
        }
        if std::mem::take(&mut state.stale) {
            let mut members = state.remembered.clone();
            members.extend(self.usable());
            if members != self.directory.current.members {
                self.next_version(members);
            }
        }
        if std::mem::take(&mut self.directory.untold) {
            self.tell_directory();
        }
    }

    /// Nodes that serve, and whether each answers for the builds that the others route by.
    fn serving(&self) -> Vec<(&String, &FleetNode, bool)> {
        let (builds, later) = self.named();
        let is_fit = |name: &String, node: &FleetNode| {
            later.contains(name) || builds.iter().all(|build| node.holds(*build))
        };
        let serving = self.nodes.iter().filter(|(_, node)| node.serves());
        serving
            .map(|(name, node)| (name, node, is_fit(name, node)))
            .collect()
    }

    /// Members that may be relayed to. A node that came back with an old build is left out until it has the one that
    /// the others route by, where others of its role have it, even one that leaves. Nodes with keys keep them all the
    /// same.
    fn usable(&self) -> BTreeMap<String, Member> {
        let serving = self.serving();
        let fit: BTreeSet<Role> = serving
            .iter()
            .filter(|(name, node, is_fit)| {
                let was_let_go = node.hello.leaving && !self.directory.leaves.contains_key(*name);
                *is_fit && !was_let_go
            })
            .map(|(_, node, _)| node.hello.role)
            .collect();
        serving
            .into_iter()
            .filter(|(_, node, is_fit)| {
                let role = node.hello.role;
                // One that leaves is cordoned, which is how the others hear of it.
                *is_fit || node.hello.leaving || role.spec().takes_slots || !fit.contains(&role)
            })
            .map(|(name, node, _)| (name.clone(), member(node)))
            .collect()
    }

    /// Roles of which every node that stays has yet to get the build of the others: nodes that leave wait for that.
    fn catching_up(&self) -> BTreeSet<Role> {
        let serving = self.serving();
        let stay = serving.iter().filter(|(_, node, _)| !node.hello.leaving);
        let (fit, unfit): (Vec<_>, Vec<_>) = stay.partition(|(.., is_fit)| *is_fit);
        let role = |(_, node, _): &&(&String, &FleetNode, bool)| node.hello.role;
        let fit: BTreeSet<Role> = fit.iter().map(role).collect();
        unfit
            .iter()
            .map(role)
            .filter(|role| !fit.contains(role))
            .collect()
    }

    fn next_version(&mut self, members: BTreeMap<String, Member>) {
        let state = &mut self.directory;
        let mut slots = state.current.slots.clone();
        placement::place(&mut slots, &state.current.members, &members);
        let next = Directory {
            version: state.current.version + 1,
            members,
            slots,
        };
        let delta = next.since(&state.current);
        // A change may be larger than a frame, when thousands of nodes come at once; a snapshot comes in several.
        let fits = link::encode(&delta).len() < FRAME_BYTES_MAX - 1_024;
        state.delta = fits.then(|| Arc::new(delta));
        state.current = Arc::new(next);
        state.untold = true;
        self.out
            .push(CoreEffect::Remember(Arc::clone(&state.current)));
    }

    fn tell_directory(&mut self) {
        let version = self.directory.current.version;
        for (link, name) in &self.links {
            let Some(node) = self.nodes.get_mut(name).filter(|n| n.told != version) else {
                continue;
            };
            let frames = self.directory.frames(node.told);
            node.told = version;
            let send = |message| CoreEffect::Send {
                link: *link,
                message,
            };
            self.out.extend(frames.into_iter().map(send));
        }
    }

    /// A node is about to drain. It is cordoned: the next version sends nothing new there.
    pub(super) fn leaving(&mut self, name: &str) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        node.hello.leaving = true;
        self.directory.stale = true;
        let leave = LeavingNode {
            version: None,
            deadline_ms: self.now_ms + LEAVE_MS_MAX,
        };
        self.directory.leaves.insert(name.to_owned(), leave);
    }

    /// Sends `left` to every leaving node that nobody else can have anything new for. Not the proxies alone are waited
    /// for: edge handlers relay on every role.
    pub(super) fn send_left(&mut self) {
        if self.directory.leaves.is_empty() {
            return;
        }
        let version = self.directory.current.version;
        for leave in self.directory.leaves.values_mut() {
            leave.version.get_or_insert(version);
        }
        let connected: BTreeSet<(&String, LinkId)> =
            self.links.iter().map(|(l, n)| (n, *l)).collect();
        let catching_up = self.catching_up();
        let mut done = Vec::new();
        for (name, leave) in &self.directory.leaves {
            let needed = self
                .nodes
                .get(name)
                .is_some_and(|node| catching_up.contains(&node.hello.role));
            let late = self.now_ms >= leave.deadline_ms;
            let heard = |other: &str| {
                let acked = self.nodes.get(other).map(|node| node.acked);
                acked >= leave.version
            };
            let mut others = connected.iter().filter(|(other, _)| *other != name);
            if late || (!needed && others.all(|(other, _)| heard(other))) {
                done.push(name.clone());
            }
        }
        for name in done {
            self.directory.leaves.remove(&name);
            self.send(&name, FromSeed::Left);
        }
    }
}
