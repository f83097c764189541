//! The slot table: every key falls into one of [`SLOTS`] slots, and every slot is some child's.
//!
//! That is what makes a placement one hash and one look into memory, with no state for each key, and what bounds
//! how much moves: slots move, one by one, and keys with them.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// Slots of all namespaces together. A constant of the fleet: another number would place every key anew. Enough that
/// a hundred children differ by little, and few enough that the whole table is a frame of some 20 KB.
pub const SLOTS: u16 = 4_096;

/// Slots of each child in their order, by the node's name. The form in which the table travels.
pub type Placed = BTreeMap<String, Vec<Vec<u16>>>;

/// A child of a node, such as the owner of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChildId {
    /// Name of the node.
    pub node: Arc<str>,
    /// Index of the child.
    pub child: u16,
}

/// A table that names a slot there is not, or one twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotFault {
    /// The number of a slot is too high.
    #[error("there is no slot {0}: there are {SLOTS}")]
    Unknown(u16),
    /// A slot has two owners.
    #[error("slot {0} is placed twice")]
    Twice(u16),
    /// A node has too many children.
    #[error("node {0} has more children than can be numbered")]
    Children(String),
}

/// The owner of each slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Placed", try_from = "Placed")]
pub struct Slots(Vec<Option<ChildId>>);

/// Slot of a key in a namespace. The result is the same on every node, for ever.
pub fn slot_of(namespace: &str, key: &str) -> u16 {
    // 0 stands in no namespace, so that no two pairs are one text.
    (hash(&[namespace.as_bytes(), &[0], key.as_bytes()]) % u64::from(SLOTS)) as u16
}

/// 64 well mixed bits: FNV-1a, and the finisher of SplitMix64 because FNV's high bits are poor. The hash has no
/// secret: who may choose keys may choose where they fall, which the limits of a child have to bear.
pub fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().copied().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

impl Default for Slots {
    fn default() -> Self {
        Self(vec![None; usize::from(SLOTS)])
    }
}

impl Slots {
    /// Owner of a slot.
    ///
    /// # Panics
    /// There is no such slot.
    pub fn place(&self, slot: u16) -> Option<&ChildId> {
        self.0[usize::from(slot)].as_ref()
    }

    /// Sets the owner of a slot.
    ///
    /// # Panics
    /// There is no such slot.
    pub fn set(&mut self, slot: u16, place: Option<ChildId>) {
        self.0[usize::from(slot)] = place;
    }

    /// Slots that have an owner, and who it is.
    pub fn placed(&self) -> impl Iterator<Item = (u16, &ChildId)> {
        let all = (0..SLOTS).zip(&self.0);
        all.filter_map(|(slot, place)| Some((slot, place.as_ref()?)))
    }

    pub(super) fn since(&self, old: &Self) -> (Placed, Vec<u16>) {
        let (mut placed, mut unplaced) = (Placed::new(), Vec::new());
        for ((slot, new), old) in (0..SLOTS).zip(&self.0).zip(&old.0) {
            match new {
                new if new == old => {}
                Some(place) => enter(&mut placed, place, slot),
                None => unplaced.push(slot),
            }
        }
        (placed, unplaced)
    }

    pub(super) fn apply(&mut self, placed: &Placed, unplaced: &[u16]) -> Result<(), SlotFault> {
        let changes = changes(placed, unplaced)?;
        for (slot, place) in changes {
            self.set(slot, place);
        }
        Ok(())
    }
}

/// Collects all changes, once they are known to be in order.
fn changes(placed: &Placed, unplaced: &[u16]) -> Result<BTreeMap<u16, Option<ChildId>>, SlotFault> {
    let mut changes = BTreeMap::new();
    let mut change = |slot: u16, place| match changes.insert(slot, place) {
        _ if slot >= SLOTS => Err(SlotFault::Unknown(slot)),
        Some(_) => Err(SlotFault::Twice(slot)),
        None => Ok(()),
    };
    for (name, children) in placed {
        let node: Arc<str> = name.as_str().into();
        for (index, slots) in children.iter().enumerate() {
            let child = u16::try_from(index).map_err(|_| SlotFault::Children(name.clone()))?;
            let place = ChildId {
                node: Arc::clone(&node),
                child,
            };
            slots
                .iter()
                .try_for_each(|slot| change(*slot, Some(place.clone())))?;
        }
    }
    unplaced.iter().try_for_each(|slot| change(*slot, None))?;
    Ok(changes)
}

fn enter(placed: &mut Placed, place: &ChildId, slot: u16) {
    if !placed.contains_key(&*place.node) {
        placed.insert(place.node.to_string(), Vec::new());
    }
    if let Some(children) = placed.get_mut(&*place.node) {
        let child = usize::from(place.child);
        children.resize(children.len().max(child + 1), Vec::new());
        children[child].push(slot);
    }
}

impl From<Slots> for Placed {
    fn from(slots: Slots) -> Self {
        slots.since(&Slots::default()).0
    }
}

impl TryFrom<Placed> for Slots {
    type Error = SlotFault;

    fn try_from(placed: Placed) -> Result<Self, SlotFault> {
        let mut slots = Self::default();
        slots.apply(&placed, &[])?;
        Ok(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_the_slots() {
        let mut counts = vec![0_u32; usize::from(SLOTS)];
        for number in 0..u32::from(SLOTS) * 64 {
            counts[usize::from(slot_of("chat", &format!("/room/{number}")))] += 1;
        }
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(
            least > Some(&24) && most < Some(&112),
            "{least:?} to {most:?} of 64"
        );
    }

    #[test]
    fn a_table_that_cannot_be_is_refused_whole() {
        let table = |slots: &[u16]| Placed::from([("a".to_owned(), vec![slots.to_vec()])]);
        assert_eq!(
            Slots::try_from(table(&[SLOTS])),
            Err(SlotFault::Unknown(SLOTS))
        );
        assert_eq!(Slots::try_from(table(&[7, 7])), Err(SlotFault::Twice(7)));
        let mut slots = Slots::default();
        assert!(slots.apply(&table(&[1, 2]), &[2]).is_err());
        assert_eq!(slots, Slots::default());
    }
}
