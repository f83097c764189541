//! Requests of one route: how they were answered, and how long that took.

use http::StatusCode;
use rustix::time::{ClockId, clock_gettime};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Status classes, in the order of [`RouteMetrics::classes`].
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Upper bounds of the histogram. The first is above the tick of the clock; a request that needs less than that is
/// none that anybody looks for.
pub(super) const BOUNDS_MS: [u64; 6] = [5, 25, 100, 500, 2_000, 10_000];

/// A moment by the kernel's coarse clock: it costs a few nanoseconds, and is as exact as the tick, 1 to 4 ms.
#[derive(Clone, Copy)]
pub(crate) struct Moment(Duration);

impl Moment {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::MonotonicCoarse);
        Self(Duration::new(
            u64::try_from(now.tv_sec).unwrap_or_default(),
            u32::try_from(now.tv_nsec).unwrap_or_default(),
        ))
    }

    fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

/// Counters of one route. A request writes three numbers at most, and takes no lock.
#[derive(Debug, Default)]
pub(crate) struct RouteMetrics {
    classes: [AtomicU64; CLASSES.len()],
    /// The last is of what took longer than every bound.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    took_ns: AtomicU64,
}

impl RouteMetrics {
    /// Counts a reply whose head is there.
    pub(crate) fn count(&self, status: StatusCode, since: Moment) {
        self.add(status, since.elapsed());
    }

    pub(super) fn add(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.classes[class].fetch_add(1, Relaxed);
        let bucket = BOUNDS_MS
            .iter()
            .position(|&ms| took <= Duration::from_millis(ms));
        self.buckets[bucket.unwrap_or(BOUNDS_MS.len())].fetch_add(1, Relaxed);
        if !took.is_zero() {
            let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            self.took_ns.fetch_add(ns, Relaxed);
        }
    }

    /// Replies by class.
    pub(super) fn classes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.classes.iter().map(|count| count.load(Relaxed));
        CLASSES.into_iter().zip(counts)
    }

    /// Cumulative counts of the histogram: for each bound the requests that took at most that, then all of them.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().scan(0, |sum, bucket| {
            *sum += bucket.load(Relaxed);
            Some(*sum)
        })
    }

    pub(super) fn took(&self) -> Duration {
        Duration::from_nanos(self.took_ns.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_in_its_bucket_and_all_above_and_in_its_class() {
        let route = RouteMetrics::default();
        for (status, took_us) in [
            (200, 0),
            (204, 5_000),
            (404, 5_001),
            (502, 10_000_001),
            (101, 99_999),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            route.add(status, Duration::from_micros(took_us));
        }
        let cumulative: Vec<_> = route.cumulative().collect();
        assert_eq!(cumulative, [2, 3, 4, 4, 4, 4, 5]);
        let classes: Vec<_> = route.classes().map(|(_, count)| count).collect();
        assert_eq!(classes, [1, 2, 0, 1, 1]);
        assert_eq!(route.took(), Duration::from_micros(10_110_001));
    }

    #[test]
    fn the_clock_goes_on() {
        let start = Moment::now();
        while start.elapsed().is_zero() {
            std::hint::spin_loop();
        }
    }
}
