//! Queue of the requests that wait for room at a server, first come, first served.

use super::Unavailable;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
    fence,
};
use tokio::sync::{Notify, futures::Notified};

/// Requests that wait for room at a server of the group.
#[derive(Default)]
pub(super) struct WaitQueue {
    waiting: AtomicU32,
    freed: Notify,
}

/// Place of a request in the queue; given up on drop.
pub(super) struct QueuePlace<'a> {
    queue: &'a WaitQueue,
    /// Whether nobody waited before.
    pub(super) first: bool,
}

impl WaitQueue {
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    pub(super) fn enter(&self, queue_max: u32) -> Result<QueuePlace<'_>, Unavailable> {
        if queue_max == 0 {
            return Err(Unavailable::Full);
        }
        let more = |now| (now < queue_max).then_some(now + 1);
        let before = self
            .waiting
            .fetch_update(SeqCst, Relaxed, more)
            .map_err(|_| Unavailable::QueueFull)?;
        Ok(QueuePlace {
            queue: self,
            first: before == 0,
        })
    }

    /// Is notified of the next room at a server. Enable it before looking for some.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Fence between entering the queue and looking for room: either the look finds the room that somebody makes at the
    /// same time, or that one finds us waiting.
    pub(super) fn before_look() {
        fence(SeqCst);
    }

    /// Wakes the first in the queue: a request is over.
    pub(super) fn wake(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// Wakes all in the queue: a server is back, with much room.
    pub(super) fn wake_all(&self) {
        self.freed.notify_waiters();
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.queue.waiting.fetch_sub(1, SeqCst);
    }
}
