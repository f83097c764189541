//! State of one connection that a handler keeps between its events, and the instances that remember connections.

use super::instance::Instance;
use crate::edge::RequestCopy;
use parking_lot::Mutex;
use std::sync::Arc;

/// One connection, as a handler's host side knows it. Dropping it makes room in its instance.
pub struct Session {
    pub(super) id: u64,
    /// The head that it was opened with.
    pub(super) head: RequestCopy,
    pub(super) home: Option<Place>,
}

impl Session {
    pub(super) fn new(id: u64, head: RequestCopy) -> Self {
        Self {
            id,
            head,
            home: None,
        }
    }

    /// What was remembered of it is not needed any more.
    pub fn forget(&mut self) {
        self.home = None;
    }

    /// Path and query that it was opened with.
    pub fn path(&self) -> &str {
        self.head.path()
    }

    /// Host and port that it was opened with.
    pub fn authority(&self) -> &str {
        self.head.authority()
    }

    /// The id of the request that it was opened with.
    pub fn request_id(&self) -> &str {
        self.head.request_id()
    }

    /// The value of a header that it was opened with, by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.headers();
        let found = headers.find(|(header, _)| header.eq_ignore_ascii_case(name.as_bytes()));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// An instance that remembers connections. Without it once it died.
pub(super) struct Home<I = Instance> {
    pub(super) instance: Mutex<Option<I>>,
    room: Mutex<Room>,
}

/// How full a home is. Changed under the lock of [`Homes`] alone.
struct Room {
    connections: u32,
    /// Connections that it ever had.
    ever: u64,
    /// Index in the list of those that have room.
    at: Option<usize>,
}

/// The instances of one handler that remember connections and have room for more. One that is full is in no list, so
/// that a connection is placed, and gone, in a time that no number of others makes longer.
pub(super) struct Homes<I = Instance>(Mutex<Vec<Arc<Home<I>>>>);

impl<I> Default for Homes<I> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A connection's place in an instance.
pub(super) struct Place<I = Instance> {
    pub(super) home: Arc<Home<I>>,
    homes: Arc<Homes<I>>,
    most: Most,
}

/// Connections that one instance may have.
#[derive(Clone, Copy)]
pub(super) struct Most {
    /// At once.
    pub(super) connections_max: u32,
    /// All together.
    pub(super) ever_max: u64,
}

impl<I> Home<I> {
    fn new(instance: I) -> Arc<Self> {
        Arc::new(Self {
            instance: Mutex::new(Some(instance)),
            room: Mutex::new(Room {
                connections: 0,
                ever: 0,
                at: None,
            }),
        })
    }

    /// Whether the instance has not died. One that runs a guest just now counts as alive, and is not waited for.
    fn is_alive(&self) -> bool {
        (self.instance.try_lock()).is_none_or(|instance| instance.is_some())
    }
}

impl Room {
    fn is_full(&self, most: Most) -> bool {
        self.connections >= most.connections_max || self.ever >= most.ever_max
    }
}

impl<I> Homes<I> {
    /// A place in an instance that has room for one more, else in the one that is `made`.
    pub(super) fn place<E>(
        self: &Arc<Self>,
        most: Most,
        made: impl FnOnce() -> Result<I, E>,
    ) -> Result<Place<I>, E> {
        let mut open = self.0.lock();
        // One that died leaves the list when its turn comes.
        while let Some(home) = open.last().filter(|home| !home.is_alive()).cloned() {
            leave(&mut open, &home);
        }
        let home = match open.last() {
            Some(home) => Arc::clone(home),
            None => {
                let home = Home::new(made()?);
                enter(&mut open, &home);
                home
            }
        };
        let is_full = {
            let mut room = home.room.lock();
            room.connections += 1;
            room.ever += 1;
            room.is_full(most)
        };
        if is_full {
            leave(&mut open, &home);
        }
        let homes = Arc::clone(self);
        Ok(Place { home, homes, most })
    }
}

fn enter<I>(open: &mut Vec<Arc<Home<I>>>, home: &Arc<Home<I>>) {
    let at = &mut home.room.lock().at;
    if at.is_none() {
        *at = Some(open.len());
        open.push(Arc::clone(home));
    }
}

fn leave<I>(open: &mut Vec<Arc<Home<I>>>, home: &Home<I>) {
    let at = home.room.lock().at.take();
    if let Some(at) = at {
        open.swap_remove(at);
        if let Some(moved) = open.get(at) {
            moved.room.lock().at = Some(at);
        }
    }
}

impl<I> Drop for Place<I> {
    fn drop(&mut self) {
        let mut open = self.homes.0.lock();
        let (is_empty, is_full) = {
            let mut room = self.home.room.lock();
            room.connections -= 1;
            (room.connections == 0, room.is_full(self.most))
        };
        if is_empty {
            leave(&mut open, &self.home);
        } else if !is_full && self.home.is_alive() {
            enter(&mut open, &self.home);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const MOST: Most = Most {
        connections_max: 2,
        ever_max: 4,
    };

    /// Instances are numbers here, in the order in which they are made.
    struct World {
        homes: Arc<Homes<u32>>,
        made: u32,
    }

    impl World {
        fn new() -> Self {
            let homes = Arc::default();
            Self { homes, made: 0 }
        }

        fn place(&mut self) -> Place<u32> {
            let made = &mut self.made;
            let make = || {
                *made += 1;
                Ok::<_, Infallible>(*made)
            };
            let Ok(place) = self.homes.place(MOST, make);
            place
        }

        /// How many have room.
        fn open(&self) -> usize {
            let open = self.homes.0.lock();
            for (at, home) in open.iter().enumerate() {
                assert_eq!(home.room.lock().at, Some(at));
            }
            open.len()
        }
    }

    fn number(place: &Place<u32>) -> Option<u32> {
        *place.home.instance.lock()
    }

    #[test]
    fn a_connection_is_placed_without_a_look_at_full_instances() {
        let mut world = World::new();
        let mut places: Vec<_> = (0..2_000).map(|_| world.place()).collect();
        assert_eq!((world.made, world.open()), (1_000, 0));
        // Where one has gone the next one comes.
        let gone = places.swap_remove(7);
        let home = number(&gone);
        drop(gone);
        assert_eq!(world.open(), 1);
        let next = world.place();
        assert_eq!((number(&next), world.open()), (home, 0));
        places.push(next);
        drop(places);
        assert_eq!(world.open(), 0);
    }

    #[test]
    fn an_instance_goes_with_its_last_connection_and_when_it_had_enough() {
        let mut world = World::new();
        let first = world.place();
        let instance = Arc::downgrade(&first.home);
        drop(first);
        assert!(instance.upgrade().is_none());
        assert_eq!(world.open(), 0);
        // It may have four in all, and never more than two.
        let kept = world.place();
        for _ in 0..3 {
            assert_eq!(number(&world.place()), Some(2));
        }
        assert_eq!(number(&world.place()), Some(3));
        assert_eq!(number(&kept), Some(2));
    }

    #[test]
    fn an_instance_that_died_takes_nobody_and_a_busy_one_is_not_waited_for() {
        let mut world = World::new();
        let dead = world.place();
        *dead.home.instance.lock() = None;
        let alive = world.place();
        assert_eq!(number(&alive), Some(2));
        let (busy, more) = (alive.home.instance.lock(), world.place());
        assert!(Arc::ptr_eq(&more.home, &alive.home));
        drop(more);
        drop(busy);
        drop(dead);
        assert_eq!(number(&world.place()), Some(2));
    }
}
