//! The other children: by place, by the number that the channels know them by, and the link to each.

use super::super::hub::Hub;
use bytes::Bytes;
use protoplex_channels::Child;
use protoplex_wire::directory::{Directory, SLOTS, slot_of};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Between two tries to reach a child.
const RETRY: Duration = Duration::from_millis(200);
/// A slot that nobody has.
const NOBODY: u32 = u32::MAX;

/// Where a child is: on which node, and its index there.
pub(super) type Place = (Arc<str>, u16);

/// The side that has dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialled {
    ByUs,
    ByThem,
}

/// A link that stands.
struct Up {
    id: u64,
    dialled: Dialled,
    /// `None` once it is to end.
    frames: Option<mpsc::Sender<Bytes>>,
}

/// State of a child that is known.
struct Known {
    number: Child,
    /// Number of the process that last spoke from there.
    process: Option<u64>,
    /// `host:port`, where the directory names it.
    address: Option<Arc<str>>,
    up: Option<Up>,
    dialled_at: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Table {
    known: HashMap<Place, Known>,
    places: HashMap<Child, Place>,
    children_ever: u32,
    links_ever: u64,
    /// The directory of before, for children that it knows by another process now.
    slots: Arc<[Option<Place>]>,
    version: u64,
}

/// The outcome of a new link.
pub(super) struct Linked {
    pub(super) child: Child,
    pub(super) link: u64,
    /// A link of before that is over.
    pub(super) replaced: bool,
    /// A process that is dead: another one answers in its place.
    pub(super) gone: Option<Child>,
}

/// This child's own number.
pub(in super::super) const ME: Child = Child(0);

impl Table {
    fn enter(&mut self, place: &Place) -> &mut Known {
        let ever = &mut self.children_ever;
        let places = &mut self.places;
        self.known.entry(place.clone()).or_insert_with(|| {
            *ever += 1;
            let number = Child(*ever);
            places.insert(number, place.clone());
            Known {
                number,
                process: None,
                address: None,
                up: None,
                dialled_at: None,
            }
        })
    }

    /// Takes a directory. Children that it does not name any more, and that nothing links to, are given back.
    pub(super) fn take(&mut self, directory: &Directory) -> Vec<Child> {
        let slots = (0..SLOTS).map(|slot| {
            let place = directory.slots.place(slot)?;
            Some((Arc::clone(&place.node), place.child))
        });
        self.slots = slots.collect();
        self.version = directory.version;
        for known in self.known.values_mut() {
            known.address = None;
        }
        for (name, member) in &directory.members {
            let node: Arc<str> = name.as_str().into();
            for (index, address) in (0..).zip(&member.child_addresses) {
                let Some(address) = address.strip_prefix("http://") else {
                    continue;
                };
                let place = (Arc::clone(&node), index);
                self.enter(&place).address = Some(address.into());
            }
        }
        self.forget()
    }

    /// Forgets who is neither named nor linked to.
    fn forget(&mut self) -> Vec<Child> {
        let gone = |known: &Known| known.address.is_none() && known.up.is_none();
        let gone = self.known.extract_if(|_, known| gone(known));
        let gone: Vec<_> = gone.map(|(_, known)| known.number).collect();
        for child in &gone {
            self.places.remove(child);
        }
        gone
    }

    /// Owners of channels, for the hub.
    pub(super) fn place(
        &mut self,
        me: &Place,
    ) -> (u64, impl Fn(&str) -> Option<Child> + Send + 'static) {
        let slots = Arc::clone(&self.slots);
        let owners = slots.iter().map(|place| match place {
            None => NOBODY,
            Some(place) if place == me => ME.0,
            Some(place) => self.enter(place).number.0,
        });
        let owners: Box<[u32]> = owners.collect();
        let owner = move |channel: &str| {
            let (namespace, key) = channel.split_once(':')?;
            let owner = owners.get(usize::from(slot_of(namespace, key)))?;
            (*owner != NOBODY).then_some(Child(*owner))
        };
        (self.version, owner)
    }

    /// The place and address of a child that is to be dialled now.
    pub(super) fn dial(&mut self, child: Child) -> Option<(Place, Arc<str>)> {
        let place = self.places.get(&child)?.clone();
        let known = self.known.get_mut(&place)?;
        let is_due = known.dialled_at.is_none_or(|at| at.elapsed() >= RETRY);
        if known.up.is_some() || !is_due {
            return None;
        }
        known.dialled_at = Some(Instant::now());
        Some((place, known.address.clone()?))
    }

    /// A link to a child stands, or is refused where there is a better one. `smaller` is whether this child's place comes
    /// before the other's: of two that were dialled at once, both sides keep the one that the smaller dialled.
    pub(super) fn link(
        &mut self,
        place: &Place,
        process: u64,
        (dialled, smaller): (Dialled, bool),
        frames: mpsc::Sender<Bytes>,
    ) -> Option<Linked> {
        self.enter(place);
        let known = self.known.get_mut(place)?;
        let other = known.process.is_some_and(|known| known != process);
        let by_the_smaller = (dialled == Dialled::ByUs) == smaller;
        let is_better = |up: &Up| up.dialled == dialled || by_the_smaller;
        if !other && known.up.as_ref().is_some_and(|up| !is_better(up)) {
            return None;
        }
        let replaced = known.up.take().is_some();
        let before = known.number;
        let mut gone = None;
        if other {
            gone = Some(before);
            self.children_ever += 1;
            known.number = Child(self.children_ever);
            self.places.remove(&before);
            self.places.insert(known.number, place.clone());
        }
        known.process = Some(process);
        self.links_ever += 1;
        known.up = Some(Up {
            id: self.links_ever,
            dialled,
            frames: Some(frames),
        });
        Some(Linked {
            child: known.number,
            link: self.links_ever,
            replaced,
            gone,
        })
    }

    /// Whether a link is the one that stands.
    pub(super) fn is_up(&self, child: Child, link: u64) -> bool {
        self.up(child).is_some_and(|up| up.id == link)
    }

    /// Where frames for a child go.
    pub(super) fn frames(&self, child: Child) -> Option<&mpsc::Sender<Bytes>> {
        self.up(child)?.frames.as_ref()
    }

    /// Ends the link of a child, as soon as its tasks notice.
    pub(super) fn hang_up(&mut self, child: Child) {
        let place = self.places.get(&child);
        if let Some(up) = place.and_then(|place| self.known.get_mut(place)?.up.as_mut()) {
            up.frames = None;
        }
    }

    fn up(&self, child: Child) -> Option<&Up> {
        self.known.get(self.places.get(&child)?)?.up.as_ref()
    }

    /// A link is over; whether it was the one that stood, and who is forgotten for it.
    pub(super) fn unlink(&mut self, child: Child, link: u64) -> (bool, Vec<Child>) {
        if !self.is_up(child, link) {
            return (false, Vec::new());
        }
        let known = self
            .places
            .get(&child)
            .and_then(|place| self.known.get_mut(place));
        if let Some(known) = known {
            known.up = None;
        }
        (true, self.forget())
    }

    /// Links that stand.
    pub(super) fn links(&self) -> usize {
        self.known
            .values()
            .filter(|known| known.up.is_some())
            .count()
    }
}

/// Tells the hub whose each channel is.
pub(super) fn place(
    table: &mut Table,
    me: &Place,
    hub: &mut Hub,
    now_ms: u64,
) -> protoplex_channels::Effects<super::super::hub::Ticket> {
    let (version, owner) = table.place(me);
    hub.place(now_ms, version, owner)
}
