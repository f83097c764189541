//! The instances that remember connections: which of them has room for one more.

use super::instance::LiveInstance;
use parking_lot::Mutex;
use std::sync::Arc;

/// An instance that several connections share, since it remembers something of each; none once it has died.
pub(super) struct SharedInstance<I = LiveInstance> {
    pub(super) instance: Mutex<Option<I>>,
    room: Mutex<Room>,
}

/// How full a shared instance is. Changed under the lock of [`SharedInstances`] alone.
struct Room {
    connections: u32,
    /// Connections that it ever had.
    ever: u64,
    /// Index in the list of those that have room.
    at: Option<usize>,
}

/// The instances of one handler that remember connections and have room for more. One that is full is in no list, so
/// that a connection is placed, and gone, in a time that no number of others makes longer.
pub(super) struct SharedInstances<I = LiveInstance>(Mutex<Vec<Arc<SharedInstance<I>>>>);

impl<I> Default for SharedInstances<I> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A connection's place in an instance.
pub(super) struct ConnectionPlace<I = LiveInstance> {
    pub(super) shared: Arc<SharedInstance<I>>,
    instances: Arc<SharedInstances<I>>,
    limits: ConnectionLimits,
}

/// Connections that one instance may have.
#[derive(Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// Connections at the same time.
    pub(super) connections_max: u32,
    /// Connections in the whole life of the instance.
    pub(super) ever_max: u64,
}

impl<I> SharedInstance<I> {
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
    fn is_full(&self, limits: ConnectionLimits) -> bool {
        self.connections >= limits.connections_max || self.ever >= limits.ever_max
    }
}

impl<I> SharedInstances<I> {
    /// A place in an instance that has room for one more, else in the one that is `made`.
    pub(super) fn place<E>(
        self: &Arc<Self>,
        limits: ConnectionLimits,
        made: impl FnOnce() -> Result<I, E>,
    ) -> Result<ConnectionPlace<I>, E> {
        let mut open = self.0.lock();
        // One that died leaves the list when its turn comes.
        while let Some(shared) = open.last().filter(|shared| !shared.is_alive()).cloned() {
            leave(&mut open, &shared);
        }
        let shared = match open.last() {
            Some(shared) => Arc::clone(shared),
            None => {
                let shared = SharedInstance::new(made()?);
                enter(&mut open, &shared);
                shared
            }
        };
        let is_full = {
            let mut room = shared.room.lock();
            room.connections += 1;
            room.ever += 1;
            room.is_full(limits)
        };
        if is_full {
            leave(&mut open, &shared);
        }
        let instances = Arc::clone(self);
        Ok(ConnectionPlace {
            shared,
            instances,
            limits,
        })
    }
}

fn enter<I>(open: &mut Vec<Arc<SharedInstance<I>>>, shared: &Arc<SharedInstance<I>>) {
    let at = &mut shared.room.lock().at;
    if at.is_none() {
        *at = Some(open.len());
        open.push(Arc::clone(shared));
    }
}

fn leave<I>(open: &mut Vec<Arc<SharedInstance<I>>>, shared: &SharedInstance<I>) {
    let at = shared.room.lock().at.take();
    if let Some(at) = at {
        open.swap_remove(at);
        if let Some(moved) = open.get(at) {
            moved.room.lock().at = Some(at);
        }
    }
}

impl<I> Drop for ConnectionPlace<I> {
    fn drop(&mut self) {
        let mut open = self.instances.0.lock();
        let (is_empty, is_full) = {
            let mut room = self.shared.room.lock();
            room.connections -= 1;
            (room.connections == 0, room.is_full(self.limits))
        };
        if is_empty {
            leave(&mut open, &self.shared);
        } else if !is_full && self.shared.is_alive() {
            enter(&mut open, &self.shared);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        connections_max: 2,
        ever_max: 4,
    };

    /// Instances are numbers here, in the order in which they are made.
    struct World {
        instances: Arc<SharedInstances<u32>>,
        made: u32,
    }

    impl World {
        fn new() -> Self {
            let instances = Arc::default();
            Self { instances, made: 0 }
        }

        fn place(&mut self) -> ConnectionPlace<u32> {
            let made = &mut self.made;
            let make = || {
                *made += 1;
                Ok::<_, Infallible>(*made)
            };
            let Ok(place) = self.instances.place(LIMITS, make);
            place
        }

        /// How many have room.
        fn open(&self) -> usize {
            let open = self.instances.0.lock();
            for (at, shared) in open.iter().enumerate() {
                assert_eq!(shared.room.lock().at, Some(at));
            }
            open.len()
        }
    }

    fn number(place: &ConnectionPlace<u32>) -> Option<u32> {
        *place.shared.instance.lock()
    }

    #[test]
    fn a_connection_is_placed_without_a_look_at_full_instances() {
        let mut world = World::new();
        let mut places: Vec<_> = (0..2_000).map(|_| world.place()).collect();
        assert_eq!((world.made, world.open()), (1_000, 0));
        // Where one has gone the next one comes.
        let gone = places.swap_remove(7);
        let shared = number(&gone);
        drop(gone);
        assert_eq!(world.open(), 1);
        let next = world.place();
        assert_eq!((number(&next), world.open()), (shared, 0));
        places.push(next);
        drop(places);
        assert_eq!(world.open(), 0);
    }

    #[test]
    fn instances_end_with_their_last_connection_or_at_their_limit() {
        let mut world = World::new();
        let first = world.place();
        let instance = Arc::downgrade(&first.shared);
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
    fn dead_instances_take_nobody_and_busy_ones_are_not_awaited() {
        let mut world = World::new();
        let dead = world.place();
        *dead.shared.instance.lock() = None;
        let alive = world.place();
        assert_eq!(number(&alive), Some(2));
        let (busy, more) = (alive.shared.instance.lock(), world.place());
        assert!(Arc::ptr_eq(&more.shared, &alive.shared));
        drop(more);
        drop(busy);
        drop(dead);
        assert_eq!(number(&world.place()), Some(2));
    }
}
