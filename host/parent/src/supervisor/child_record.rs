//! What the parent knows of one child: its phase, its silence, its restarts and what it has been given.
//!
//! No I/O but one look at `/proc`: the supervisor does what these records say.

use super::{given_builds::GivenBuilds, process::Process};
use protoplex_control::messages::Beat;
use serde::Serialize;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Pause before a child is started again, by how often it has just died.
const RESTART_PAUSES_MS: [u64; 7] = [0, 100, 200, 400, 1_000, 2_000, 5_000];
/// The longest pause before a restart while no child lives: clients wait, so the machine's rest comes second. Doubled
/// with each start in a row that came to nothing, since a child that dies of its start dies again.
const ALONE_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause before a restart while no child lives and starts come to nothing: whoever mends the cause waits no
/// longer for the next start.
const ALONE_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Starts in a row that came to nothing, after which it is no accident.
const FUTILE_STARTS_MAX: u32 = 2;
/// A child that served this long has not died of its start.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// A child that is silent this long is stuck, and is killed. Neither time in which this process did not run counts,
/// nor such in which the child had no processor.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Four beats that did not come: a sibling accepts on the sockets of a child that is silent this long, so that nobody
/// waits for the watchdog.
const QUIET_AFTER: Duration = Duration::from_secs(1);

/// The watchdog's verdict on a child's silence.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Silence {
    Short,
    /// From now on, a sibling accepts on the child's sockets.
    Quiet,
    /// The child is to be killed.
    Stuck,
}

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No process; the next is started at `start_at`.
    Dead { start_at: Instant },
    /// A process that has not said a word.
    Starting,
    /// The child has been given the active build, or waits for one.
    Loading,
    /// The child answers requests.
    Serving { since: Instant },
}

/// A child as the node's status shows it.
#[derive(Serialize)]
pub(crate) struct ChildStatus {
    pid: Option<u32>,
    state: &'static str,
    restarts: u64,
    beat: Beat,
    adopter: Option<usize>,
    last_end: Option<String>,
}

/// One child, over all its processes.
pub(super) struct ChildRecord {
    phase: Phase,
    /// Rises with each process.
    generation: u64,
    process: Option<Process>,
    /// Counters that the running process said last.
    beat: Beat,
    /// Sums over the processes that have ended.
    past: Beat,
    /// When the child said something last, by [`protoplex_control::awake::Awake`].
    heard: Duration,
    /// While the child is quiet: how long it had waited for a processor when that was noticed.
    quiet: Option<Duration>,
    deaths: usize,
    /// Processes in a row that ended before they served.
    futile_starts: u32,
    /// How the last process that has ended did.
    last_end: Option<String>,
    restarts: u64,
    given: GivenBuilds,
    /// The sibling that accepts on this child's sockets meanwhile.
    adopter: Option<usize>,
    /// Version of the directory by which the child relays.
    directory: u64,
    /// Number of questions for metrics that the child has not answered yet.
    scrapes_open: u32,
}

impl ChildRecord {
    /// A child whose first process may start now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Dead { start_at: now },
            generation: 0,
            process: None,
            beat: Beat::default(),
            past: Beat::default(),
            heard: Duration::ZERO,
            quiet: None,
            deaths: 0,
            futile_starts: 0,
            last_end: None,
            restarts: 0,
            given: GivenBuilds::default(),
            adopter: None,
            directory: 0,
            scrapes_open: 0,
        }
    }

    // The life of a process.

    /// Whether there is no process, and the next may start.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Dead { start_at } if start_at <= now)
    }

    /// Number of the process that is started now: words of those before it count for nothing.
    pub(super) fn next_generation(&mut self, awake: Duration) -> u64 {
        self.generation += 1;
        self.heard(awake);
        self.generation
    }

    pub(super) fn is_generation(&self, generation: u64) -> bool {
        self.generation == generation
    }

    pub(super) fn launched(&mut self, process: Process) {
        self.process = Some(process);
        self.phase = Phase::Starting;
    }

    /// Notes that the process is up and reads what it is told.
    pub(super) fn started(&mut self) {
        self.phase = Phase::Loading;
    }

    /// Notes that the child answers requests, by a build or that there is none yet.
    pub(super) fn came_up(&mut self) {
        self.futile_starts = 0;
    }

    /// Notes that the child answers requests by a build.
    pub(super) fn serves_since(&mut self, now: Instant) {
        self.came_up();
        self.phase = Phase::Serving { since: now };
    }

    /// Notes how the process ended. The next starts after a pause that grows while the child keeps dying young.
    pub(super) fn died(&mut self, end: String, now: Instant) {
        self.last_end = Some(end);
        let stable = matches!(self.phase, Phase::Serving { since } if now - since > STABLE_AFTER);
        self.deaths = if stable { 0 } else { self.deaths };
        self.futile_starts = match self.serves() {
            true => 0,
            false => self.futile_starts.saturating_add(1),
        };
        let pause = RESTART_PAUSES_MS[self.deaths.min(RESTART_PAUSES_MS.len() - 1)];
        self.deaths += 1;
        self.restarts += 1;
        self.phase = Phase::Dead {
            start_at: now + Duration::from_millis(pause),
        };
        self.process = None;
        self.quiet = None;
        self.given = GivenBuilds::default();
        self.directory = 0;
        self.scrapes_open = 0;
        self.past.requests += self.beat.requests;
        self.past.errors += self.beat.errors;
        self.past.traps += self.beat.traps;
        self.beat = Beat::default();
    }

    pub(super) fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Takes the process out of the record; its end is still to come as an event.
    pub(super) fn take_process(&mut self) -> Option<Process> {
        self.process.take()
    }

    // What the child does.

    pub(super) fn serves(&self) -> bool {
        matches!(self.phase, Phase::Serving { .. })
    }

    /// Whether the child has said that it started: only then does it know what is active.
    pub(super) fn takes_orders(&self) -> bool {
        matches!(self.phase, Phase::Loading | Phase::Serving { .. })
    }

    /// Whether the child does not come up, start after start.
    pub(super) fn is_futile(&self) -> bool {
        !self.serves() && self.futile_starts >= FUTILE_STARTS_MAX
    }

    /// Whether clients who come to the child's sockets are let in.
    pub(super) fn accepts(&self) -> bool {
        self.serves() && self.quiet.is_none()
    }

    pub(super) fn adopter(&self) -> Option<usize> {
        self.adopter
    }

    pub(super) fn set_adopter(&mut self, adopter: Option<usize>) {
        self.adopter = adopter;
    }

    /// Open connections, as the child said last.
    pub(super) fn connections(&self) -> u64 {
        self.beat.connections
    }

    pub(super) fn set_beat(&mut self, beat: Beat) {
        self.beat = beat;
    }

    /// Counters of the running process, and those of the ones before it.
    pub(super) fn counters(&self) -> [Beat; 2] {
        [self.beat, self.past]
    }

    pub(super) fn restarts(&self) -> u64 {
        self.restarts
    }

    pub(super) fn last_end(&self) -> Option<&str> {
        self.last_end.as_deref()
    }

    pub(super) fn given(&mut self) -> &mut GivenBuilds {
        &mut self.given
    }

    pub(super) fn directory(&self) -> u64 {
        self.directory
    }

    pub(super) fn set_directory(&mut self, version: u64) {
        self.directory = version;
    }

    // Silence.

    /// Notes that the child said something, or was started. Returns whether it was quiet before.
    pub(super) fn heard(&mut self, awake: Duration) -> bool {
        self.heard = awake;
        self.quiet.take().is_some()
    }

    /// Judges the silence of a child with a process until `awake`.
    pub(super) fn silence(&mut self, awake: Duration) -> Silence {
        let silent = awake.saturating_sub(self.heard);
        let Some(process) = self.process.as_ref().filter(|_| silent > QUIET_AFTER) else {
            return Silence::Short;
        };
        let waited = process.waited_for_cpu();
        self.judge(silent, waited)
    }

    /// Judges a silence of `silent`, by a child that has waited for a processor for `waited` since its start.
    pub(super) fn judge(&mut self, silent: Duration, waited: Duration) -> Silence {
        let Some(before) = self.quiet else {
            self.quiet = Some(waited);
            return Silence::Quiet;
        };
        let starved = waited.saturating_sub(before);
        match silent.saturating_sub(starved) > SILENCE_MAX {
            true => Silence::Stuck,
            false => Silence::Short,
        }
    }

    // Questions for metrics.

    /// Notes a question for metrics, unless `open_max` are open already. Returns whether it may be asked.
    pub(super) fn may_ask_metrics(&mut self, open_max: u32) -> bool {
        let may = self.serves() && self.scrapes_open < open_max;
        self.scrapes_open += u32::from(may);
        may
    }

    /// Notes an answer to a question for metrics. Answers come in order: returns whether this one is to the last
    /// question, and not to one that was given up.
    pub(super) fn answered_last_scrape(&mut self) -> bool {
        self.scrapes_open = self.scrapes_open.saturating_sub(1);
        self.scrapes_open == 0
    }

    pub(super) fn status(&self) -> ChildStatus {
        ChildStatus {
            pid: self.process.as_ref().map(|process| process.pid()),
            state: match self.phase {
                Phase::Dead { .. } => "dead",
                Phase::Starting => "starting",
                Phase::Loading => "loading",
                Phase::Serving { .. } => "serving",
            },
            restarts: self.restarts,
            beat: self.beat,
            adopter: self.adopter,
            last_end: self.last_end.clone(),
        }
    }
}

/// Shortens the pauses before restarts while no process is left: those that punish a crash loop would punish clients.
/// They grow while starting does not help.
pub(super) fn shorten_pauses(children: &mut [ChildRecord], now: Instant) {
    if children.iter().any(|child| child.process.is_some()) {
        return;
    }
    for child in children {
        let doublings = child.futile_starts.saturating_sub(1).min(5);
        let pause = (ALONE_PAUSE * (1 << doublings)).min(ALONE_PAUSE_MAX);
        if let Phase::Dead { start_at } = &mut child.phase {
            *start_at = (*start_at).min(now + pause);
        }
    }
}
