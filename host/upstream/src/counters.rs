//! Counts of what became of the requests to an upstream. The node's metrics read them; no request does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why an attempt brought nothing that a client can use, or was not made at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCause {
    /// The server refused the connection, or could not be reached.
    Connect,
    /// There was no connection in time.
    ConnectTimeout,
    /// There was no head of a response in time.
    Timeout,
    /// The connection ended before there was a head.
    Reset,
    /// A response, or a request, that the protocol does not have.
    Malformed,
    /// The server answered with 502, 503 or 504.
    Status,
    /// The client's body did not come.
    Client,
    /// The upstream has no server.
    NoServer,
    /// Every server is full, and so is the queue.
    Full,
    /// The request waited in the queue, and no server had room in time.
    QueueTimeout,
}

/// Every cause with its name in metrics.
const CAUSES: [(FailureCause, &str); 10] = [
    (FailureCause::Connect, "connect"),
    (FailureCause::ConnectTimeout, "connect-timeout"),
    (FailureCause::Timeout, "timeout"),
    (FailureCause::Reset, "reset"),
    (FailureCause::Malformed, "malformed"),
    (FailureCause::Status, "status"),
    (FailureCause::Client, "client"),
    (FailureCause::NoServer, "no-server"),
    (FailureCause::Full, "full"),
    (FailureCause::QueueTimeout, "queue-timeout"),
];

/// Counts under one name of an upstream. Several names may share servers; whoever relays says which name counts.
#[derive(Debug, Default)]
pub struct UpstreamCounters {
    requests: AtomicU64,
    retries: AtomicU64,
    failures: [AtomicU64; CAUSES.len()],
}

impl UpstreamCounters {
    /// Counts a request once, however many attempts it takes.
    pub fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn count_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// Counts a failed attempt, or a request for which none could be made.
    pub fn count_failure(&self, cause: FailureCause) {
        self.failures[cause as usize].fetch_add(1, Relaxed);
    }

    /// Number of requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Number of attempts after the first of their request.
    pub fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    /// Number of failures so far, by the name of their cause in metrics.
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
            let counters = UpstreamCounters::default();
            counters.count_failure(cause);
            let counted: Vec<_> = counters.failures().filter(|(_, n)| *n == 1).collect();
            assert_eq!(counted, [(name, 1)]);
        }
    }
}
