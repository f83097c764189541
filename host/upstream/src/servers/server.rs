//! One server: what it has in flight, and whether it takes requests. Reading costs a few loads; what changes seldom
//! is written under a lock.

use http::uri::Authority;
use parking_lot::Mutex;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// The whole share of a server.
pub(super) const WEIGHT_FULL: u64 = 1 << WEIGHT_BITS;
/// Bits of a hash, enough to tell shares of a thousandth.
pub(super) const WEIGHT_BITS: u32 = 10;
/// Share of a server when its slow start begins: with nothing at all it would never warm up.
const WEIGHT_MIN: u64 = WEIGHT_FULL / 10;
/// An ejection in a row grows to this many times the first.
const EJECTION_GROWTH_MAX: u64 = 10;
/// `out_until_ms` of a server that fails its health checks: until one says otherwise.
const UNTIL_WELL: u64 = u64::MAX;

/// A server. A cache line of its own, since every request writes it.
#[repr(align(64))]
pub(super) struct Server {
    pub(super) in_flight: AtomicU32,
    /// In a row.
    pub(super) failures: AtomicU32,
    /// 0 is in.
    out_until_ms: AtomicU64,
    /// When its slow start begins; 0 is long ago.
    start_ms: AtomicU64,
    /// Hash of the server's address, the same on every node.
    pub(super) hash: u64,
    pub(super) authority: Authority,
    slow: Mutex<Slow>,
}

/// Written by health checks and ejections only.
#[derive(Default)]
struct Slow {
    unhealthy: bool,
    /// Health checks in a row that went the other way than `unhealthy`.
    contrary: u32,
    ejected_until_ms: u64,
    /// The last time, and how many times the first that was.
    ejected_for_ms: u64,
    ejections: u64,
}

impl Server {
    /// `start_ms`: when it came to a group that was there before it, else 0.
    pub(super) fn new(authority: Authority, start_ms: u64) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            out_until_ms: AtomicU64::new(0),
            start_ms: AtomicU64::new(start_ms),
            hash: super::key_hash(authority.as_str().as_bytes()),
            authority,
            slow: Mutex::default(),
        }
    }

    /// Whether it is left out.
    pub(super) fn is_out(&self, now_ms: u64) -> bool {
        self.out_until_ms.load(Relaxed) > now_ms
    }

    /// When it comes back by itself, if it is out and does.
    pub(super) fn returns_at_ms(&self, now_ms: u64) -> Option<u64> {
        let until = self.out_until_ms.load(Relaxed);
        (until > now_ms && until != UNTIL_WELL).then_some(until)
    }

    /// Share of the server, of [`WEIGHT_FULL`].
    pub(super) fn weight(&self, now_ms: u64, slow_start_ms: u64) -> u64 {
        if slow_start_ms == 0 {
            return WEIGHT_FULL;
        }
        let start = self.start_ms.load(Relaxed);
        let elapsed = now_ms.saturating_sub(start);
        if start == 0 || elapsed >= slow_start_ms {
            return WEIGHT_FULL;
        }
        (elapsed * WEIGHT_FULL / slow_start_ms).max(WEIGHT_MIN)
    }

    /// Takes a place, where there is one.
    pub(super) fn enter(&self, in_flight_max: u32) -> bool {
        if in_flight_max == 0 {
            self.in_flight.fetch_add(1, Relaxed);
            return true;
        }
        let more = |now| (now < in_flight_max).then_some(now + 1);
        self.in_flight.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Gives it back. Sequentially consistent with a look at the queue after it, see [`super::queue`].
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, SeqCst);
    }

    pub(super) fn is_ejected(&self, now_ms: u64) -> bool {
        self.slow.lock().ejected_until_ms > now_ms
    }

    pub(super) fn is_unhealthy(&self) -> bool {
        self.slow.lock().unhealthy
    }

    /// Leaves it out, longer than the last time unless it went well for as long in between. Says for how long.
    pub(super) fn eject(&self, now_ms: u64, eject_ms: u64) -> u64 {
        let mut slow = self.slow.lock();
        let calm_ms = now_ms.saturating_sub(slow.ejected_until_ms);
        slow.ejections = match slow.ejections {
            0 => 1,
            _ if calm_ms >= slow.ejected_for_ms => 1,
            before => (before + 1).min(EJECTION_GROWTH_MAX),
        };
        slow.ejected_for_ms = eject_ms * slow.ejections;
        slow.ejected_until_ms = now_ms + slow.ejected_for_ms;
        self.failures.store(0, Relaxed);
        self.publish(&slow, slow.ejected_until_ms);
        slow.ejected_for_ms
    }

    /// Takes the finding of a health check. Says so when it changed anything.
    pub(super) fn probed(&self, well: bool, after: u32, now_ms: u64) -> Option<bool> {
        let mut slow = self.slow.lock();
        if well != slow.unhealthy {
            slow.contrary = 0;
            return None;
        }
        slow.contrary += 1;
        if slow.contrary < after {
            return None;
        }
        slow.contrary = 0;
        slow.unhealthy = !well;
        let start_ms = now_ms.max(slow.ejected_until_ms);
        self.publish(&slow, start_ms);
        Some(well)
    }

    fn publish(&self, slow: &Slow, start_ms: u64) {
        let until = if slow.unhealthy {
            UNTIL_WELL
        } else {
            slow.ejected_until_ms
        };
        self.start_ms.store(start_ms, Relaxed);
        self.out_until_ms.store(until, Relaxed);
    }
}
