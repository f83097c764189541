//! Requests that wait for a place, first come, first served.

use super::Unavailable;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
    fence,
};
use tokio::sync::{Notify, futures::Notified};

/// Requests that wait at a group.
#[derive(Default)]
pub(super) struct Queue {
    waiting: AtomicU32,
    freed: Notify,
}

/// A place in the queue, while it lives.
pub(super) struct Place<'a> {
    queue: &'a Queue,
    /// Nobody waited before.
    pub(super) first: bool,
}

impl Queue {
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    pub(super) fn enter(&self, queue_max: u32) -> Result<Place<'_>, Unavailable> {
        if queue_max == 0 {
            return Err(Unavailable::Full);
        }
        let more = |now| (now < queue_max).then_some(now + 1);
        let before = self
            .waiting
            .fetch_update(SeqCst, Relaxed, more)
            .map_err(|_| Unavailable::QueueFull)?;
        Ok(Place {
            queue: self,
            first: before == 0,
        })
    }

    /// Told of the next place that is given back; enable it before looking for one.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Between entering and looking for a place: either the look finds the place that somebody gives back at the
    /// same time, or that one finds us waiting.
    pub(super) fn before_look() {
        fence(SeqCst);
    }

    /// A place was given back.
    pub(super) fn wake(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// A server is back, with many places.
    pub(super) fn wake_all(&self) {
        self.freed.notify_waiters();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.waiting.fetch_sub(1, SeqCst);
    }
}
