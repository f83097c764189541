//! Counts of what became of the requests to an upstream. Read by the node's metrics, and by nobody on a request's way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a try brought nothing that a visitor can use, or was not made at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// No head in time.
    Timeout,
    /// The connection ended before there was a head.
    Reset,
    /// A response, or a request, that the protocol does not have.
    Malformed,
    /// The server answered with 502, 503 or 504.
    Status,
    /// The client's body did not come.
    Client,
    /// There is no server.
    NoServer,
    /// Every server is full, and so is the queue.
    Full,
    /// No server had a place in time.
    QueueTimeout,
}

/// Every cause with its name in metrics.
const CAUSES: [(Cause, &str); 10] = [
    (Cause::Connect, "connect"),
    (Cause::ConnectTimeout, "connect-timeout"),
    (Cause::Timeout, "timeout"),
    (Cause::Reset, "reset"),
    (Cause::Malformed, "malformed"),
    (Cause::Status, "status"),
    (Cause::Client, "client"),
    (Cause::NoServer, "no-server"),
    (Cause::Full, "full"),
    (Cause::QueueTimeout, "queue-timeout"),
];

/// Counts under one name. Who relays says which: several names may share servers.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    retries: AtomicU64,
    failures: [AtomicU64; CAUSES.len()],
}

impl Counters {
    /// One more request, however often it is tried.
    pub fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn count_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// One more failure.
    pub fn count_failure(&self, cause: Cause) {
        self.failures[cause as usize].fetch_add(1, Relaxed);
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Tries after the first.
    pub fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    /// Failures so far, by name of their cause.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CAUSES
            .iter()
            .map(|(cause, name)| (*name, self.failures[*cause as usize].load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_counted_under_its_own_name() {
        for (cause, name) in CAUSES {
            let counters = Counters::default();
            counters.count_failure(cause);
            let counted: Vec<_> = counters.failures().filter(|(_, n)| *n == 1).collect();
            assert_eq!(counted, [(name, 1)]);
        }
    }
}
