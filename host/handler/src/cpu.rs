//! CPU time of guests. Epochs count wall time, so what they interrupt is compared with the thread's CPU clock.
//!
//! Until a response has its head, all of its guest's time adds up. Then the time in which the guest waits, for its client
//! or for whatever it sends next, gives some back: a stream that lasts for hours is not cut for what it used in all, and a
//! guest that never waits is.
//!
//! A guest that may wait shares its thread with others: its time is what passes between the begin and the end of each
//! poll, and nothing that passes between two polls. Reading the clock is a system call, so a request that is over within
//! a few polls, and within one tick, pays nothing: what it used until then is not counted, at most one tick a poll.

use crate::ticker::GuestRun;
use rustix::time::{ClockId, clock_gettime};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Polls of a request that are not measured where no tick falls into them: simple requests have fewer.
const UNMEASURED_POLLS: u64 = 8;
/// The most that a guest is charged between two ticks. Ticks come every millisecond: more than a few is time in which
/// the hypervisor ran somebody else, which the thread's clock counts all the same.
const INTERVAL_MAX_NS: u64 = 4_000_000;
/// CPU time that comes back, once a response has its head, for as much time in which the guest waits. A stream may use
/// four fifths of a core as long as its client takes it; one that never waits has its budget and no more.
const GIVEN_BACK_PER_WAIT: u64 = 4;
/// Value for a moment that no clock shows.
const UNKNOWN: u64 = u64::MAX;

/// The CPU time of one store, since its last reset. Shared with whoever polls it.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuMeter(Arc<Spent>);

/// Only one thread at a time runs a store, so none of these needs more than to be read later.
#[derive(Debug)]
struct Spent {
    used_ns: AtomicU64,
    /// The thread's clock when the guest was last known to go on, in this poll.
    since_ns: AtomicU64,
    polls: AtomicU64,
    /// No request in the store lacks the head of its response: waits give time back.
    gives_back: AtomicBool,
    /// The clock on the wall when the guest began to wait, if it does.
    waits_since_ns: AtomicU64,
    /// The guest was interrupted in this poll: it has more to do, and does not wait behind it.
    is_interrupted: AtomicBool,
}

impl Default for Spent {
    fn default() -> Self {
        Self {
            used_ns: AtomicU64::new(0),
            since_ns: AtomicU64::new(UNKNOWN),
            polls: AtomicU64::new(0),
            gives_back: AtomicBool::new(false),
            waits_since_ns: AtomicU64::new(UNKNOWN),
            is_interrupted: AtomicBool::new(false),
        }
    }
}

impl CpuMeter {
    /// Forgets everything: a new request begins. What it uses before the first tick is not counted: the thread's clock
    /// also runs while the kernel or a hypervisor does something else, and that may be more than a budget.
    pub(crate) fn reset(&self) {
        let spent = &*self.0;
        spent.since_ns.store(UNKNOWN, Relaxed);
        spent.used_ns.store(0, Relaxed);
        spent.polls.store(0, Relaxed);
        spent.gives_back.store(false, Relaxed);
        spent.waits_since_ns.store(UNKNOWN, Relaxed);
    }

    /// Every request in the store has the head of its response: from here on waits give time back.
    pub(crate) fn give_back(&self) {
        self.0.gives_back.store(true, Relaxed);
    }

    /// The guest is interrupted so that others may run.
    pub(crate) fn interrupt(&self) {
        self.0.is_interrupted.store(true, Relaxed);
    }

    /// Called whenever a tick finds the guest running. Returns the CPU time used so far.
    pub(crate) fn tick(&self) -> Duration {
        let spent = &*self.0;
        spent.count(thread_cpu_ns());
        // From now on each poll is measured.
        spent.polls.fetch_max(UNMEASURED_POLLS, Relaxed);
        Duration::from_nanos(spent.used_ns.load(Relaxed))
    }

    /// Runs a future that runs the guest; only what passes while it is polled is counted.
    ///
    /// # Cancel safety
    /// As the future's own.
    pub(crate) async fn measure<F: Future>(&self, run: F) -> F::Output {
        let spent = &*self.0;
        let mut run = pin!(run);
        poll_fn(|cx| {
            let _running = GuestRun::begin();
            spent.begin();
            let polled = run.as_mut().poll(cx);
            spent.end();
            polled
        })
        .await
    }
}

impl Spent {
    fn begin(&self) {
        let waits_since = self.waits_since_ns.swap(UNKNOWN, Relaxed);
        if waits_since != UNKNOWN {
            let waited = wall_ns().saturating_sub(waits_since);
            self.take_back(waited.saturating_mul(GIVEN_BACK_PER_WAIT));
        }
        let is_measured = self.polls.fetch_add(1, Relaxed) >= UNMEASURED_POLLS;
        let now = is_measured.then(thread_cpu_ns);
        self.since_ns.store(now.unwrap_or(UNKNOWN), Relaxed);
    }

    fn end(&self) {
        if self.since_ns.load(Relaxed) != UNKNOWN {
            self.count(thread_cpu_ns());
            self.since_ns.store(UNKNOWN, Relaxed);
        }
        let waits = !self.is_interrupted.swap(false, Relaxed);
        // Where nothing was used, there is nothing to give back, and no clock to be read.
        if waits && self.gives_back.load(Relaxed) && self.used_ns.load(Relaxed) > 0 {
            self.waits_since_ns.store(wall_ns(), Relaxed);
        }
    }

    fn take_back(&self, given_ns: u64) {
        let used = self.used_ns.load(Relaxed);
        self.used_ns.store(used.saturating_sub(given_ns), Relaxed);
    }

    fn count(&self, now: u64) {
        let since = self.since_ns.swap(now, Relaxed);
        if since != UNKNOWN {
            let used = now.saturating_sub(since).min(INTERVAL_MAX_NS);
            self.used_ns.fetch_add(used, Relaxed);
        }
    }
}

fn thread_cpu_ns() -> u64 {
    nanoseconds_of(ClockId::ThreadCPUTime)
}

fn wall_ns() -> u64 {
    nanoseconds_of(ClockId::Monotonic)
}

fn nanoseconds_of(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + nanoseconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    /// Uses so much CPU time of this thread, ticking as the runtime does.
    fn burn(meter: &CpuMeter, time: Duration) -> Duration {
        let end = thread_cpu_ns() + u64::try_from(time.as_nanos()).unwrap();
        let mut used = Duration::ZERO;
        while thread_cpu_ns() < end {
            let pause = thread_cpu_ns() + 1_000_000;
            while thread_cpu_ns() < pause {
                black_box(());
            }
            used = meter.tick();
        }
        used
    }

    /// Burns in short polls, between which others run, and says what it was charged.
    async fn guest(polls: u32) -> Duration {
        let meter = CpuMeter::default();
        meter.reset();
        let run = async {
            let mut used = Duration::ZERO;
            for _ in 0..polls {
                used = burn(&meter, Duration::from_millis(2));
                tokio::task::yield_now().await;
            }
            used
        };
        meter.measure(run).await
    }

    #[tokio::test]
    async fn a_guest_is_charged_its_own_time_and_none_of_its_neighbours() {
        let alone = guest(10).await;
        let together = futures::future::join_all((0..8).map(|_| guest(10))).await;
        for used in together.into_iter().chain([alone]) {
            // Twenty milliseconds, without what came before the first tick.
            let whole = Duration::from_millis(18)..Duration::from_millis(32);
            assert!(whole.contains(&used), "{used:?}");
        }
    }

    /// A guest that computes for a hundred milliseconds in pieces, after each of which `between` passes. What it was
    /// charged for in the end.
    async fn streams(meter: &CpuMeter, between: Duration) -> Duration {
        let run = async {
            let mut used = Duration::ZERO;
            for _ in 0..20 {
                used = burn(meter, Duration::from_millis(5));
                if between.is_zero() {
                    meter.interrupt();
                    tokio::task::yield_now().await;
                } else {
                    tokio::time::sleep(between).await;
                }
            }
            used
        };
        meter.measure(run).await
    }

    #[tokio::test]
    async fn waits_give_time_back_once_the_response_has_its_head() {
        let meter = CpuMeter::default();
        meter.reset();
        let before = streams(&meter, Duration::from_millis(5)).await;
        assert!(before > Duration::from_millis(70), "{before:?}");
        meter.reset();
        meter.give_back();
        let after = streams(&meter, Duration::from_millis(5)).await;
        assert!(after < Duration::from_millis(20), "{after:?}");
    }

    #[tokio::test]
    async fn a_guest_that_never_waits_gets_no_time_back() {
        let meter = CpuMeter::default();
        meter.reset();
        meter.give_back();
        let neighbours = async {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(5));
                tokio::task::yield_now().await;
            }
        };
        let (used, ()) = tokio::join!(streams(&meter, Duration::ZERO), neighbours);
        assert!(used > Duration::from_millis(80), "{used:?}");
    }

    #[test]
    fn time_before_the_first_tick_of_a_request_is_not_its_own() {
        let meter = CpuMeter::default();
        for _ in 0..2 {
            meter.reset();
            let end = thread_cpu_ns() + 10_000_000;
            while thread_cpu_ns() < end {
                black_box(());
            }
            // The second request comes to an instance that has seen ticks.
            assert_eq!(meter.tick(), Duration::ZERO);
        }
    }

    #[test]
    fn a_long_gap_between_ticks_is_charged_as_some_milliseconds() {
        let meter = CpuMeter::default();
        meter.reset();
        meter.tick();
        let end = thread_cpu_ns() + 5 * INTERVAL_MAX_NS;
        while thread_cpu_ns() < end {
            black_box(());
        }
        assert_eq!(meter.tick(), Duration::from_nanos(INTERVAL_MAX_NS));
    }

    #[tokio::test]
    async fn polls_shorter_than_a_tick_are_charged_after_the_first_few() {
        let meter = CpuMeter::default();
        meter.reset();
        let run = async {
            for _ in 0..100 {
                let end = thread_cpu_ns() + 200_000;
                while thread_cpu_ns() < end {
                    black_box(());
                }
                tokio::task::yield_now().await;
            }
            meter.tick()
        };
        let used = meter.measure(run).await;
        assert!(used > Duration::from_millis(17), "{used:?}");
    }
}
