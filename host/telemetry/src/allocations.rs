//! Counts allocations, where the program has an allocator that tells (feature `count-allocations` of the binary): for the
//! bench.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Counts one.
#[inline]
pub fn note() {
    COUNT.fetch_add(1, Relaxed);
}

/// Number of allocations since the process began; `None` where nobody counts.
pub fn count() -> Option<u64> {
    let count = COUNT.load(Relaxed);
    (count > 0).then_some(count)
}
