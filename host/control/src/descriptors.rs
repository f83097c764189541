//! The descriptor limit of this process, and how many connections it allows.

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;

/// Descriptors of a child that belong to no client and no upstream: listening sockets, builds, logs, native code, the
/// runtime's own.
const RESERVED: u64 = 256;
/// Descriptors of a relayed request: one for the client and one for the upstream.
const PER_CONNECTION: u64 = 2;
/// The fewest client connections that a child takes, whatever its descriptor limit.
const CONNECTIONS_MIN: u64 = 64;

/// Raises the soft limit to the hard one. Children inherit it.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // A limit that stays is one that we live with: connections are counted against it.
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the descriptor limit cannot be raised to the hard one; fewer connections are accepted");
    }
}

/// Descriptors that this process may have. The limit is each process's own, so children do not share it.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Connections that `descriptors` allow.
pub fn connections(descriptors: u64) -> usize {
    let most = descriptors.saturating_sub(RESERVED) / PER_CONNECTION;
    usize::try_from(most.max(CONNECTIONS_MIN)).unwrap_or(usize::MAX)
}

/// Descriptors kept for the control socket when clients have taken all others: a node that is full must still be
/// measured, and take orders.
pub struct Reserve(Mutex<Vec<File>>);

/// Descriptors kept in reserve: as many as one packet may carry.
const RESERVE: usize = crate::socket::FDS_MAX;

impl Reserve {
    /// Opens the descriptors that the reserve will lend.
    pub fn filled() -> Self {
        let reserve = Self(Mutex::default());
        reserve.refill();
        reserve
    }

    /// Closes the reserved descriptors and runs `work`, which needs some. Descriptors that `work` opened stay missing
    /// until [`Self::refill`] is called after they are closed.
    pub fn lend<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.lock().clear();
        let done = work();
        self.refill();
        done
    }

    /// Reopens as many reserved descriptors as the limit allows.
    pub fn refill(&self) {
        let mut held = self.0.lock();
        while held.len() < RESERVE
            && let Ok(file) = File::open("/dev/null")
        {
            held.push(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_kept_for_upstreams_and_for_the_child_itself() {
        assert_eq!(connections(1_024), 384);
        assert_eq!(connections(65_536), 32_640);
        assert_eq!(connections(100), 64);
    }
}
