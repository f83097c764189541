//! The thread that ticks the engines' epochs while guests run. While none does, it sleeps: nothing has to be stopped.
//!
//! Whoever runs a guest holds a [`GuestRun`]. Runs are counted for the whole process, whose engines they are.

use parking_lot::{Condvar, Mutex};
use std::{
    io,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
        },
    },
    thread::JoinHandle,
    time::Duration,
};
use wasmtime::Engine;

/// The ticker's period: what a neighbour waits at least before a guest can be stopped.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a run after which the ticker sleeps: waking it costs as much as some ticks do.
const QUIET_TICKS: u32 = 32;

/// Runs that began in this process, and those that ended.
static BEGUN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
/// Whether a ticker sleeps, or is about to.
static SLEEPS: AtomicBool = AtomicBool::new(false);
static SLEEP: Mutex<()> = Mutex::new(());
static WAKE: Condvar = Condvar::new();

/// A guest runs, or may run, until this is dropped. One that waits for something else does not run.
pub(crate) struct GuestRun(());

impl GuestRun {
    /// Begins a run: ticks come from now on.
    #[inline]
    pub(crate) fn begin() -> Self {
        BEGUN.fetch_add(1, SeqCst);
        if SLEEPS.load(SeqCst) {
            wake();
        }
        Self(())
    }
}

impl Drop for GuestRun {
    #[inline]
    fn drop(&mut self) {
        ENDED.fetch_add(1, Release);
    }
}

#[cold]
fn wake() {
    let _lock = SLEEP.lock();
    SLEEPS.store(false, SeqCst);
    WAKE.notify_all();
}

/// The ticker of two engines. Dropping it ends the thread.
pub(crate) struct Ticker {
    shared: Arc<TickerState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct TickerState {
    stops: AtomicBool,
    ticks: AtomicU64,
}

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system starts no more threads.
    pub(crate) fn start(engines: [Engine; 2]) -> io::Result<Self> {
        let shared = Arc::new(TickerState::default());
        let state = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("epoch".into());
        let thread = thread.spawn(move || state.tick_all(&engines))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Number of ticks so far.
    #[cfg(test)]
    fn ticks(&self) -> u64 {
        self.shared.ticks.load(Relaxed)
    }
}

impl TickerState {
    fn tick_all(&self, engines: &[Engine; 2]) {
        let (mut seen, mut quiet) = (u64::MAX, 0);
        while !self.stops.load(Relaxed) {
            std::thread::sleep(TICK);
            engines.iter().for_each(Engine::increment_epoch);
            self.ticks.fetch_add(1, Relaxed);
            let is_quiet = is_quiet(seen);
            seen = BEGUN.load(Relaxed);
            quiet = if is_quiet { quiet + 1 } else { 0 };
            if quiet > QUIET_TICKS {
                self.sleep(seen);
                quiet = 0;
            }
        }
    }

    /// Sleeps until a run begins.
    fn sleep(&self, seen: u64) {
        let mut lock = SLEEP.lock();
        SLEEPS.store(true, SeqCst);
        // A run that began before this look is seen by it, and one behind it sees that the ticker sleeps.
        while is_quiet(seen) && SLEEPS.load(SeqCst) && !self.stops.load(Relaxed) {
            WAKE.wait(&mut lock);
        }
    }
}

/// Whether no guest runs, and none has since `seen` runs had begun.
fn is_quiet(seen: u64) -> bool {
    let ended = ENDED.load(Acquire);
    let begun = BEGUN.load(SeqCst);
    begun == seen && ended == begun
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stops.store(true, Relaxed);
        wake();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const WAIT_MAX: Duration = Duration::from_secs(20);

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + WAIT_MAX;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(TICK);
        }
    }

    /// Alone in its process (nextest): other tests' guests would keep the ticker awake.
    #[test]
    fn ticks_stop_while_no_guest_runs_and_come_while_one_does() {
        let ticker = Ticker::start([Engine::default(), Engine::default()]).unwrap();
        for round in 0..3 {
            wait_until("it sleeps", || SLEEPS.load(SeqCst));
            std::thread::sleep(10 * TICK);
            let asleep = ticker.ticks();
            std::thread::sleep(50 * TICK);
            assert!(ticker.ticks() <= asleep + 1, "round {round}");
            let run = GuestRun::begin();
            let far = ticker.ticks() + 4 * u64::from(QUIET_TICKS);
            wait_until("ticks come for as long as it runs", || ticker.ticks() > far);
            drop(run);
        }
        drop(ticker);
    }
}
