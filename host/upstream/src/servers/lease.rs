//! The permit of a request at a server, and the report of what became of it.

use super::{AttemptOutcome, Servers};
use http::uri::Authority;
use std::{fmt, sync::Arc, time::Instant};

/// Permit of one request in flight at one server. Its drop makes room for another, and wakes one that waits.
pub struct Lease {
    pub(super) servers: Arc<Servers>,
    pub(super) index: usize,
}

impl Lease {
    /// Index of the server in its group.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Address of the server.
    pub fn authority(&self) -> &Authority {
        self.servers.authority(self.index)
    }

    /// Reports a response that is no failure, for which the time does not matter.
    pub(crate) fn succeeded(&self) {
        self.servers.succeeded(self.index);
    }

    /// Reports how the attempt ended. Call it once an attempt.
    pub fn report(&self, outcome: AttemptOutcome, now: Instant) {
        self.servers.report(self.index, outcome, now);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.servers.servers[self.index].leave();
        if self.servers.in_flight_max != 0 {
            self.servers.queue.wake();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.authority())
    }
}
