//! Placement of keys: which child of which live node has each slot.
//!
//! Rendezvous hashing, weighted by capacity, made sticky: a slot stays where it is while its owner is healthy, except
//! that a node that comes takes what it wins, and at most its fair share. Within a node, children share its slots by
//! rendezvous as well. See Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998, and for
//! the weights Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005.

use protoplex_wire::directory::{ChildId, Member, SLOTS, Slots, hash};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// A node that may be given slots.
struct SlotCandidate {
    name: Arc<str>,
    children: u16,
    capacity: f64,
    cordoned: bool,
}

/// Changes the slot table for the nodes that there are now.
pub(super) fn place(
    slots: &mut Slots,
    before: &BTreeMap<String, Member>,
    members: &BTreeMap<String, Member>,
) {
    let owners = owners(members);
    let by_name: HashMap<&str, &SlotCandidate> = owners.iter().map(|o| (&*o.name, o)).collect();
    let had: BTreeSet<Arc<str>> = slots.placed().map(|(_, p)| Arc::clone(&p.node)).collect();
    let mut free = Vec::new();
    for slot in 0..SLOTS {
        let Some(place) = slots.place(slot) else {
            free.push(slot);
            continue;
        };
        match by_name.get(&*place.node) {
            None => free.push(slot),
            Some(owner) if children(before, &owner.name) != owner.children => {
                slots.set(slot, Some(owner.place(slot)));
            }
            Some(_) => {}
        }
    }
    // Before the free ones are given away, so that what a newcomer wins of those is not counted against its share.
    let capacity: f64 = owners.iter().map(|owner| owner.capacity).sum();
    let newcomer = |owner: &&SlotCandidate| !owner.cordoned && !had.contains(&owner.name);
    for newcomer in owners.iter().filter(newcomer) {
        let share = (f64::from(SLOTS) * newcomer.capacity / capacity).ceil() as usize;
        let mut won: Vec<(f64, u16)> = Vec::new();
        for (slot, place) in slots.placed() {
            let score = newcomer.score(slot);
            let beats = by_name
                .get(&*place.node)
                .is_some_and(|owner| score > owner.score(slot));
            // Most lose here, so that the rest is asked for a share of the slots only.
            if beats && winner(&owners, slot).is_some_and(|best| best.name == newcomer.name) {
                won.push((score, slot));
            }
        }
        won.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, slot) in won.into_iter().take(share) {
            slots.set(slot, Some(newcomer.place(slot)));
        }
    }
    for slot in free {
        slots.set(slot, winner(&owners, slot).map(|owner| owner.place(slot)));
    }
}

/// Nodes that take keys and are not about to leave; or those that are, where there is no other: they still serve.
fn owners(members: &BTreeMap<String, Member>) -> Vec<SlotCandidate> {
    let live = members
        .iter()
        .filter(|(_, m)| m.role.spec().takes_slots && !m.child_addresses.is_empty());
    let (open, cordoned): (Vec<_>, Vec<_>) = live.partition(|(_, member)| !member.cordoned);
    let all = if open.is_empty() { cordoned } else { open };
    all.into_iter()
        .map(|(name, member)| SlotCandidate {
            name: name.as_str().into(),
            children: children(members, name),
            capacity: f64::from(member.capacity.max(1)),
            cordoned: member.cordoned,
        })
        .collect()
}

fn children(members: &BTreeMap<String, Member>, name: &str) -> u16 {
    let count = members.get(name).map_or(0, |m| m.child_addresses.len());
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn winner(owners: &[SlotCandidate], slot: u16) -> Option<&SlotCandidate> {
    owners
        .iter()
        .max_by(|a, b| a.score(slot).total_cmp(&b.score(slot)))
}

impl SlotCandidate {
    /// Score of an owner for a slot: of all owners, the one with the highest wins; each wins in proportion to its
    /// capacity.
    fn score(&self, slot: u16) -> f64 {
        let hash = hash(&[self.name.as_bytes(), &[0], &slot.to_le_bytes()]);
        // 53 bits are exact in a double; the half keeps away from 0 and 1.
        let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -self.capacity / uniform.ln()
    }

    fn place(&self, slot: u16) -> ChildId {
        let (slot, name) = (slot.to_le_bytes(), self.name.as_bytes());
        let score = |child: &u16| hash(&[name, &[0], &slot, &child.to_le_bytes()]);
        ChildId {
            node: Arc::clone(&self.name),
            child: (0..self.children).max_by_key(score).unwrap_or(0),
        }
    }
}
