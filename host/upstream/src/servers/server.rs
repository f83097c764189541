//! One server: its requests in flight, and whether it is left out. Reading costs a few loads; what changes seldom is
//! written under a lock.

use http::uri::Authority;
use parking_lot::Mutex;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// Share of a server that has no slow start.
pub(super) const WEIGHT_FULL: u64 = 1 << WEIGHT_BITS;
/// Bits of a share, enough to tell shares of a thousandth.
pub(super) const WEIGHT_BITS: u32 = 10;
/// Share of a server when its slow start begins: with nothing at all it would never warm up.
const WEIGHT_MIN: u64 = WEIGHT_FULL / 10;
/// Most times the first ejection that one in a row grows to.
const EJECTION_GROWTH_MAX: u64 = 10;
/// `out_until_ms` of a server that fails its health checks: until one says otherwise.
const UNTIL_HEALTHY: u64 = u64::MAX;

/// State of one server. A cache line of its own, since every request writes it.
#[repr(align(64))]
pub(super) struct UpstreamServer {
    pub(super) in_flight: AtomicU32,
    /// Failures in a row.
    pub(super) failures: AtomicU32,
    /// End of the time for which the server is left out; 0 while it is not.
    out_until_ms: AtomicU64,
    /// Begin of the server's slow start; 0 is long ago.
    start_ms: AtomicU64,
    /// Hash of the server's address, the same on every node.
    pub(super) hash: u64,
    pub(super) authority: Authority,
    record: Mutex<HealthRecord>,
}

/// What health checks and ejections know of a server; nothing else writes it.
#[derive(Default)]
struct HealthRecord {
    unhealthy: bool,
    /// Health checks in a row that went the other way than `unhealthy`.
    contrary: u32,
    ejected_until_ms: u64,
    /// Length of the last ejection.
    ejected_for_ms: u64,
    ejections: u64,
}

impl UpstreamServer {
    /// Makes a healthy server. `start_ms` is when it came to a group that was there before it, else 0.
    pub(super) fn new(authority: Authority, start_ms: u64) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            out_until_ms: AtomicU64::new(0),
            start_ms: AtomicU64::new(start_ms),
            hash: super::key_hash(authority.as_str().as_bytes()),
            authority,
            record: Mutex::default(),
        }
    }

    /// Whether the server is left out, for whatever reason.
    pub(super) fn is_out(&self, now_ms: u64) -> bool {
        self.out_until_ms.load(Relaxed) > now_ms
    }

    /// End of the server's ejection, if it is out for no other reason.
    pub(super) fn returns_at_ms(&self, now_ms: u64) -> Option<u64> {
        let until = self.out_until_ms.load(Relaxed);
        (until > now_ms && until != UNTIL_HEALTHY).then_some(until)
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

    /// Counts a request in flight, if there is room for it.
    pub(super) fn enter(&self, in_flight_max: u32) -> bool {
        if in_flight_max == 0 {
            self.in_flight.fetch_add(1, Relaxed);
            return true;
        }
        let more = |now| (now < in_flight_max).then_some(now + 1);
        self.in_flight.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Counts a request as over. Sequentially consistent with a look at the queue after it, see [`super::queue`].
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, SeqCst);
    }

    pub(super) fn is_ejected(&self, now_ms: u64) -> bool {
        self.record.lock().ejected_until_ms > now_ms
    }

    pub(super) fn is_unhealthy(&self) -> bool {
        self.record.lock().unhealthy
    }

    /// Ejects the server, for longer than the last time unless it was healthy for as long in between. Returns for how
    /// long.
    pub(super) fn eject(&self, now_ms: u64, eject_ms: u64) -> u64 {
        let mut record = self.record.lock();
        let calm_ms = now_ms.saturating_sub(record.ejected_until_ms);
        record.ejections = match record.ejections {
            0 => 1,
            _ if calm_ms >= record.ejected_for_ms => 1,
            before => (before + 1).min(EJECTION_GROWTH_MAX),
        };
        record.ejected_for_ms = eject_ms * record.ejections;
        record.ejected_until_ms = now_ms + record.ejected_for_ms;
        self.failures.store(0, Relaxed);
        self.publish(&record, record.ejected_until_ms);
        record.ejected_for_ms
    }

    /// Notes the result of a health check. Returns the server's health if that changed.
    pub(super) fn probed(&self, healthy: bool, after: u32, now_ms: u64) -> Option<bool> {
        let mut record = self.record.lock();
        if healthy != record.unhealthy {
            record.contrary = 0;
            return None;
        }
        record.contrary += 1;
        if record.contrary < after {
            return None;
        }
        record.contrary = 0;
        record.unhealthy = !healthy;
        let start_ms = now_ms.max(record.ejected_until_ms);
        self.publish(&record, start_ms);
        Some(healthy)
    }

    fn publish(&self, record: &HealthRecord, start_ms: u64) {
        let until = if record.unhealthy {
            UNTIL_HEALTHY
        } else {
            record.ejected_until_ms
        };
        self.start_ms.store(start_ms, Relaxed);
        self.out_until_ms.store(until, Relaxed);
    }
}
