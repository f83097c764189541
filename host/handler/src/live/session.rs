//! What a handler keeps of one connection between its events, and the instances that remember connections.

use super::instance::Instance;
use crate::edge::RequestCopy;
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

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
pub(super) struct Home {
    pub(super) instance: Mutex<Option<Instance>>,
    connections: AtomicU32,
    /// Connections that it ever had.
    ever: AtomicU32,
}

/// The instances of one handler that remember connections.
#[derive(Default)]
pub(super) struct Homes(Mutex<Vec<Arc<Home>>>);

/// A connection's place in an instance.
pub(super) struct Place {
    pub(super) home: Arc<Home>,
    homes: Arc<Homes>,
}

impl Homes {
    /// A place in an instance that has room for one more of `connections_max`, and had fewer than `ever_max` before; else
    /// in the one that is `made`.
    pub(super) fn place<E>(
        self: &Arc<Self>,
        connections_max: u32,
        ever_max: u64,
        made: impl FnOnce() -> Result<Instance, E>,
    ) -> Result<Place, E> {
        let mut homes = self.0.lock();
        let has_room = |home: &&Arc<Home>| {
            home.connections.load(Relaxed) < connections_max
                && u64::from(home.ever.load(Relaxed)) < ever_max
                && home.instance.lock().is_some()
        };
        // Those made last have room most often.
        let found = homes.iter().rev().find(has_room).cloned();
        let home = match found {
            Some(home) => home,
            None => {
                let home = Arc::new(Home {
                    instance: Mutex::new(Some(made()?)),
                    connections: AtomicU32::new(0),
                    ever: AtomicU32::new(0),
                });
                homes.push(Arc::clone(&home));
                home
            }
        };
        home.connections.fetch_add(1, Relaxed);
        home.ever.fetch_add(1, Relaxed);
        let homes = Arc::clone(self);
        Ok(Place { home, homes })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut homes = self.homes.0.lock();
        if self.home.connections.fetch_sub(1, Relaxed) == 1 {
            homes.retain(|home| !Arc::ptr_eq(home, &self.home));
        }
    }
}
