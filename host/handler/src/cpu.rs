//! CPU time of guests. Epochs count wall time, so what they interrupt is compared with the thread's CPU clock.
//!
//! Reading that clock is a system call, so it is read only in epoch callbacks: a call that ends within one tick
//! pays nothing. What runs before the first callback of a stretch is not counted: at most one tick each.

use rustix::time::{ClockId, clock_gettime};
use std::{
    thread::ThreadId,
    time::{Duration, Instant},
};

/// The ticker's period: what a neighbour waits at least before a guest can be stopped.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Two callbacks further apart than this belong to different stretches of running.
const STRETCH_GAP: Duration = Duration::from_millis(4);

/// Sums the CPU time between callbacks of one store.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    used: Duration,
    last: Option<(ThreadId, Duration, Instant)>,
}

impl CpuMeter {
    /// Forgets everything: a new request begins.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Called whenever a tick finds the guest running. Returns the CPU time used so far.
    pub(crate) fn tick(&mut self) -> Duration {
        let thread = std::thread::current().id();
        let (cpu, now) = (thread_cpu(), Instant::now());
        if let Some((last_thread, last_cpu, last_now)) = self.last
            && last_thread == thread
            && (now - last_now < STRETCH_GAP
                || cpu.saturating_sub(last_cpu) + TICK >= now - last_now)
        {
            self.used += cpu.saturating_sub(last_cpu);
        }
        self.last = Some((thread, cpu, now));
        self.used
    }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
