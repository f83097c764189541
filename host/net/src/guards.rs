//! Counts of what is open, raised while a guard lives.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Raises a gauge while it lives, beside the gauge.
pub struct GaugeGuard<'a>(&'a AtomicUsize);

impl<'a> GaugeGuard<'a> {
    /// Raises the gauge.
    #[inline]
    pub fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for GaugeGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Raises a gauge while it lives, wherever it goes.
pub struct OwnedGaugeGuard(Arc<AtomicUsize>);

impl OwnedGaugeGuard {
    /// Raises the gauge.
    #[inline]
    pub fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for OwnedGaugeGuard {
    #[inline]
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
