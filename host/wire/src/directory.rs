//! The directory: which nodes there are, and which child of which live node a key is placed on.
//!
//! The Seed makes it; nodes keep a copy and answer from it. A [`Delta`] leads from one version to the next, and a
//! snapshot is nothing but the whole. No I/O, no clock.

use crate::{manifest::Role, status::Addresses};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod slots;

pub use slots::{ChildId, Placed, SLOTS, SlotFault, Slots, hash, slot_of};

/// A node that can be relayed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Role of the node.
    pub role: Role,
    /// Region of the node; empty is nowhere in particular.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Addresses at which the node is reached.
    pub addresses: Addresses,
    /// Address at which other nodes reach each child of a live node, `http://host:port`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub child_addresses: Vec<String>,
    /// Weight of the node when keys are placed, relative to that of the others.
    pub capacity: u32,
    /// Whether the node is about to leave: nothing new goes there while there is another of its role.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cordoned: bool,
}

/// One whole version of the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Number of the version, which rises with every change.
    pub version: u64,
    /// Members of the fleet that can be relayed to, by name.
    #[serde(default)]
    pub members: BTreeMap<String, Member>,
    /// Owner of every slot.
    #[serde(default)]
    pub slots: Slots,
}

/// A part of a whole version: a frame of the node's stream has a limit, and thousands of nodes do not fit into one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryFrame {
    /// Version of the directory.
    pub version: u64,
    /// Members that this frame names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Member>,
    /// Slots of each child, in the last frame.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: Placed,
    /// Whether further frames of this version follow: it counts when the last is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// Changes that lead from one version to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Version that the delta changes.
    pub from: u64,
    /// Version that the delta makes of it.
    pub to: u64,
    /// Nodes that came or changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Member>,
    /// Names of the nodes that went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// Slots that moved, under the child that has them now.
    #[serde(default, skip_serializing_if = "Placed::is_empty")]
    pub slots: Placed,
    /// Slots that nobody has any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unplaced: Vec<u16>,
}

/// Why a delta cannot be applied; a snapshot has to be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaFault {
    /// The delta does not begin at the version that is held: something between was missed.
    #[error("the change leads from version {from}, and {held} is held")]
    Gap {
        /// Version that is held.
        held: u64,
        /// Version that the delta changes.
        from: u64,
    },
    /// The delta places slots that do not exist, or places one twice.
    #[error(transparent)]
    Slots(#[from] SlotFault),
}

impl Directory {
    /// Addresses by role. A cordoned node is named where there is no other.
    pub fn by_role(&self) -> BTreeMap<Role, Vec<Addresses>> {
        let mut nodes = BTreeMap::<Role, Vec<Addresses>>::new();
        for member in self.usable() {
            let of_role = nodes.entry(member.role).or_default();
            of_role.push(member.addresses.clone());
        }
        nodes
    }

    /// Members that may be given something new: all but the cordoned, and those only where their role has no other.
    /// Until it drains, a cordoned node serves like any.
    pub fn usable(&self) -> impl Iterator<Item = &Member> {
        let open = |role| {
            self.members
                .values()
                .any(|other| other.role == role && !other.cordoned)
        };
        let roles: BTreeMap<Role, bool> = self
            .members
            .values()
            .filter(|member| member.cordoned)
            .map(|member| (member.role, open(member.role)))
            .collect();
        self.members
            .values()
            .filter(move |member| !(member.cordoned && roles.get(&member.role) == Some(&true)))
    }

    /// The changes since `old`.
    pub fn since(&self, old: &Self) -> Delta {
        let changed = |(name, member): &(&String, &Member)| old.members.get(*name) != Some(member);
        let members = self.members.iter().filter(changed);
        let gone = |name: &&String| !self.members.contains_key(*name);
        let (slots, unplaced) = self.slots.since(&old.slots);
        Delta {
            from: old.version,
            to: self.version,
            members: members.map(|(n, m)| (n.clone(), m.clone())).collect(),
            removed: old.members.keys().filter(gone).cloned().collect(),
            slots,
            unplaced,
        }
    }

    /// Becomes the version that the delta leads to.
    ///
    /// # Errors
    /// The delta does not begin where this stands, or is no delta; then nothing changed.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), DeltaFault> {
        if delta.from != self.version {
            return Err(DeltaFault::Gap {
                held: self.version,
                from: delta.from,
            });
        }
        self.slots.apply(&delta.slots, &delta.unplaced)?;
        for name in &delta.removed {
            self.members.remove(name);
        }
        let changed = delta.members.iter().map(|(n, m)| (n.clone(), m.clone()));
        self.members.extend(changed);
        self.version = delta.to;
        Ok(())
    }
}

/// A region's name: empty, or 1 to 64 of `a-z`, `0-9` and `-`.
pub fn is_region(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= 64 && text.bytes().all(ok)
}
