//! The other children: by place, by the number that the channels know them by, and the link to each.

use super::super::hub::{Hub, Ticket};
use bytes::Bytes;
use protoplex_channels::Child;
use protoplex_wire::directory::{ChildId, Directory, SLOTS, slot_of};
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

/// The side that has dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DialledBy {
    Us,
    Them,
}

/// A link that is up.
struct Link {
    id: u64,
    dialled_by: DialledBy,
    /// `None` once it is to end.
    frames: Option<mpsc::Sender<Bytes>>,
}

/// Another child, by its place.
struct OtherChild {
    number: Child,
    /// Random number of the process that was last linked from there.
    process: Option<u64>,
    /// `host:port`, where the directory names it.
    address: Option<Arc<str>>,
    link: Option<Link>,
    dialled_at: Option<Instant>,
}

/// All other children that the directory names, or that are linked.
#[derive(Default)]
pub(super) struct Table {
    others: HashMap<ChildId, OtherChild>,
    places: HashMap<Child, ChildId>,
    children_ever: u32,
    links_ever: u64,
    /// Owner of each slot, by the last directory.
    slots: Arc<[Option<ChildId>]>,
    version: u64,
}

/// A link that two children ask for.
pub(super) struct LinkRequest<'a> {
    pub(super) place: &'a ChildId,
    /// Random number of the process at the other end.
    pub(super) process: u64,
    pub(super) dialled_by: DialledBy,
    /// Whether this child's place comes before the other's: of two links that were dialled at once, both sides keep the
    /// one that the smaller dialled.
    pub(super) is_smaller: bool,
    /// Takes frames for the other child.
    pub(super) frames: mpsc::Sender<Bytes>,
}

/// A link that has come up.
pub(super) struct NewLink {
    pub(super) child: Child,
    pub(super) id: u64,
    /// Whether it took the place of another link.
    pub(super) replaced: bool,
    /// The child's number before, where another process answers in its place now.
    pub(super) gone: Option<Child>,
}

/// This child's own number.
pub(in super::super) const ME: Child = Child(0);

impl Table {
    fn enter(&mut self, place: &ChildId) -> &mut OtherChild {
        let ever = &mut self.children_ever;
        let places = &mut self.places;
        self.others.entry(place.clone()).or_insert_with(|| {
            *ever += 1;
            let number = Child(*ever);
            places.insert(number, place.clone());
            OtherChild {
                number,
                process: None,
                address: None,
                link: None,
                dialled_at: None,
            }
        })
    }

    /// Takes a directory. Children that it does not name any more, and that nothing links to, are given back.
    pub(super) fn take(&mut self, directory: &Directory) -> Vec<Child> {
        let slots = (0..SLOTS).map(|slot| {
            let place = directory.slots.place(slot)?;
            Some(place.clone())
        });
        self.slots = slots.collect();
        self.version = directory.version;
        for other in self.others.values_mut() {
            other.address = None;
        }
        for (name, member) in &directory.members {
            let node: Arc<str> = name.as_str().into();
            for (index, address) in (0..).zip(&member.child_addresses) {
                let Some(address) = address.strip_prefix("http://") else {
                    continue;
                };
                let place = ChildId {
                    node: Arc::clone(&node),
                    child: index,
                };
                self.enter(&place).address = Some(address.into());
            }
        }
        self.forget()
    }

    /// Forgets children that are neither named nor linked.
    fn forget(&mut self) -> Vec<Child> {
        let gone = |other: &OtherChild| other.address.is_none() && other.link.is_none();
        let gone = self.others.extract_if(|_, other| gone(other));
        let gone: Vec<_> = gone.map(|(_, other)| other.number).collect();
        for child in &gone {
            self.places.remove(child);
        }
        gone
    }

    /// Owners of channels, for the hub.
    pub(super) fn place(
        &mut self,
        me: &ChildId,
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
    pub(super) fn dial(&mut self, child: Child) -> Option<(ChildId, Arc<str>)> {
        let place = self.places.get(&child)?.clone();
        let other = self.others.get_mut(&place)?;
        let is_due = other.dialled_at.is_none_or(|at| at.elapsed() >= RETRY);
        if other.link.is_some() || !is_due {
            return None;
        }
        other.dialled_at = Some(Instant::now());
        Some((place, other.address.clone()?))
    }

    /// Takes a link, or refuses it where there is a better one.
    pub(super) fn link(&mut self, request: LinkRequest<'_>) -> Option<NewLink> {
        let LinkRequest {
            place,
            process,
            dialled_by,
            is_smaller,
            frames,
        } = request;
        self.enter(place);
        let other = self.others.get_mut(place)?;
        let is_restarted = other.process.is_some_and(|known| known != process);
        let by_the_smaller = (dialled_by == DialledBy::Us) == is_smaller;
        let is_better = |link: &Link| link.dialled_by == dialled_by || by_the_smaller;
        if !is_restarted && other.link.as_ref().is_some_and(|link| !is_better(link)) {
            return None;
        }
        let replaced = other.link.take().is_some();
        let before = other.number;
        let mut gone = None;
        if is_restarted {
            gone = Some(before);
            self.children_ever += 1;
            other.number = Child(self.children_ever);
            self.places.remove(&before);
            self.places.insert(other.number, place.clone());
        }
        other.process = Some(process);
        self.links_ever += 1;
        other.link = Some(Link {
            id: self.links_ever,
            dialled_by,
            frames: Some(frames),
        });
        Some(NewLink {
            child: other.number,
            id: self.links_ever,
            replaced,
            gone,
        })
    }

    /// Whether that link of the child is the one that is up.
    pub(super) fn is_up(&self, child: Child, link: u64) -> bool {
        self.up(child).is_some_and(|up| up.id == link)
    }

    /// The sender of frames for a child, where a link to it is up.
    pub(super) fn frames(&self, child: Child) -> Option<&mpsc::Sender<Bytes>> {
        self.up(child)?.frames.as_ref()
    }

    /// Ends the link of a child, as soon as its tasks notice.
    pub(super) fn hang_up(&mut self, child: Child) {
        let place = self.places.get(&child);
        if let Some(link) = place.and_then(|place| self.others.get_mut(place)?.link.as_mut()) {
            link.frames = None;
        }
    }

    fn up(&self, child: Child) -> Option<&Link> {
        self.others.get(self.places.get(&child)?)?.link.as_ref()
    }

    /// Takes out a link that has broken. Returns the children that are forgotten for it, or `None` where another link is
    /// up.
    pub(super) fn unlink(&mut self, child: Child, link: u64) -> Option<Vec<Child>> {
        if !self.is_up(child, link) {
            return None;
        }
        let place = self.places.get(&child);
        if let Some(other) = place.and_then(|place| self.others.get_mut(place)) {
            other.link = None;
        }
        Some(self.forget())
    }

    /// Number of links that are up.
    pub(super) fn links(&self) -> usize {
        let links = self.others.values().filter(|other| other.link.is_some());
        links.count()
    }
}

/// Gives the hub the owners of channels.
pub(super) fn place(
    table: &mut Table,
    me: &ChildId,
    hub: &mut Hub,
    now_ms: u64,
) -> protoplex_channels::Effects<Ticket> {
    let (version, owner) = table.place(me);
    hub.place(now_ms, version, owner)
}
