//! The children of a node: who serves, who holds whose sockets, what each of them has been given.
//!
//! No I/O: the parent does what [`adoptions`] says.

use protoplex_control::messages::Beat;
use protoplex_wire::{BuildId, Digest};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// Pause before a child is started again, by how often it has just died.
const RESTART_PAUSES_MS: [u64; 7] = [0, 100, 200, 400, 1_000, 2_000, 5_000];
/// The longest pause while no child lives: visitors wait, so the machine's rest comes second. Doubled with each start
/// that came to nothing in a row: who dies of the start dies again.
const ALONE_PAUSE: Duration = Duration::from_millis(50);
/// To which it is doubled: whoever mends the cause waits no longer for it.
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
    /// From now on, a sibling accepts on its sockets.
    Quiet,
    /// The child is to be killed.
    Stuck,
}

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No process; the next is started then.
    Dead { start_at: Instant },
    /// A process that has not said a word.
    Starting,
    /// The child has been given the active build, or waits for one.
    Loading,
    /// The child answers requests.
    Serving { since: Instant },
}

/// One child.
pub(super) struct Seat {
    pub(super) phase: Phase,
    /// Rises with each process.
    pub(super) generation: u64,
    pub(super) process: Option<super::process::Process>,
    pub(super) beat: Beat,
    /// Sums of processes that have died.
    pub(super) past: Beat,
    /// When the child said something last, by the clock of [`protoplex_control::awake`].
    heard: Duration,
    /// While it is quiet: how long it had waited for a processor when that was noticed.
    quiet: Option<Duration>,
    pub(super) deaths: usize,
    /// Processes in a row that ended before they served.
    futile_starts: u32,
    /// How the last process that has ended did.
    pub(super) last_end: Option<String>,
    pub(super) restarts: u64,
    pub(super) native: HashSet<Digest>,
    pub(super) builds: HashSet<BuildId>,
    /// The sibling that accepts on its sockets meanwhile.
    pub(super) adopter: Option<usize>,
    /// The version of the directory that it relays by.
    pub(super) directory: u64,
    /// Number of questions for its metrics that it has not answered yet.
    pub(super) scrapes_open: u32,
}

impl Seat {
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
            native: HashSet::new(),
            builds: HashSet::new(),
            adopter: None,
            directory: 0,
            scrapes_open: 0,
        }
    }

    pub(super) fn serves(&self) -> bool {
        matches!(self.phase, Phase::Serving { .. })
    }

    /// Notes that it answers requests, by a build or that there is none yet.
    pub(super) fn came_up(&mut self) {
        self.futile_starts = 0;
    }

    /// Whether it does not come up, start after start.
    pub(super) fn is_futile(&self) -> bool {
        !self.serves() && self.futile_starts >= FUTILE_STARTS_MAX
    }

    /// Whether visitors who come to its sockets are let in.
    fn accepts(&self) -> bool {
        self.serves() && self.quiet.is_none()
    }

    /// Notes that the child said something, or was started. Returns whether it was quiet before.
    pub(super) fn hear(&mut self, awake: Duration) -> bool {
        self.heard = awake;
        self.quiet.take().is_some()
    }

    /// Judges its silence until `awake`.
    pub(super) fn silence(&mut self, awake: Duration) -> Silence {
        let silent = awake.saturating_sub(self.heard);
        let Some(process) = self.process.as_ref().filter(|_| silent > QUIET_AFTER) else {
            return Silence::Short;
        };
        let waited = process.waited_for_cpu();
        self.judge(silent, waited)
    }

    fn judge(&mut self, silent: Duration, waited: Duration) -> Silence {
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

    /// Whether it has said that it started: only then does it know what is active.
    pub(super) fn takes_orders(&self) -> bool {
        matches!(self.phase, Phase::Loading | Phase::Serving { .. })
    }

    /// Notes an answer to a question for metrics. Answers come in order: whether this one is to the last question, and
    /// not to one that was given up.
    pub(super) fn answered_last_scrape(&mut self) -> bool {
        self.scrapes_open = self.scrapes_open.saturating_sub(1);
        self.scrapes_open == 0
    }

    /// The process ended. It starts again after a pause that grows while it keeps dying young.
    pub(super) fn died(&mut self, now: Instant) {
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
        self.native.clear();
        self.builds.clear();
        self.directory = 0;
        self.scrapes_open = 0;
        self.past.requests += self.beat.requests;
        self.past.errors += self.beat.errors;
        self.past.traps += self.beat.traps;
        self.beat = Beat::default();
    }
}

/// With no process left, the pauses that punish a crash loop would punish visitors: they are short, as long as starting
/// helps.
pub(super) fn hasten(seats: &mut [Seat], now: Instant) {
    if seats.iter().any(|seat| seat.process.is_some()) {
        return;
    }
    for seat in seats {
        let doublings = seat.futile_starts.saturating_sub(1).min(5);
        let pause = (ALONE_PAUSE * (1 << doublings)).min(ALONE_PAUSE_MAX);
        if let Phase::Dead { start_at } = &mut seat.phase {
            *start_at = (*start_at).min(now + pause);
        }
    }
}

/// A change of who accepts on the sockets of `index`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Adoption {
    Adopt { by: usize, index: usize },
    Disown { by: usize, index: usize },
}

/// Changes that make every socket accepted on: those of a child that does not serve, or is quiet, by a sibling.
pub(super) fn adoptions(seats: &mut [Seat]) -> Vec<Adoption> {
    let mut changes = Vec::new();
    for index in 0..seats.len() {
        let before = seats[index].adopter;
        let adopter = before.filter(|&by| seats[by].accepts());
        let serves = seats[index].accepts();
        if let Some(by) = before
            && adopter.is_none()
            && seats[by].process.is_some()
        {
            // A quiet one; it reads that when it is back.
            changes.push(Adoption::Disown { by, index });
        }
        let next = match adopter {
            Some(by) if serves => {
                changes.push(Adoption::Disown { by, index });
                None
            }
            None if !serves => {
                let loads = seats.iter().enumerate().filter(|(_, seat)| seat.accepts());
                let by = loads
                    .min_by_key(|(_, seat)| seat.beat.connections)
                    .map(|(by, _)| by);
                if let Some(by) = by {
                    changes.push(Adoption::Adopt { by, index });
                }
                by
            }
            same => same,
        };
        seats[index].adopter = next;
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(serving: &[bool]) -> Vec<Seat> {
        let now = Instant::now();
        let seat = |&serves: &bool| {
            let mut seat = Seat::new(now);
            if serves {
                seat.phase = Phase::Serving { since: now };
            }
            seat
        };
        serving.iter().map(seat).collect()
    }

    #[test]
    fn the_sockets_of_a_dead_child_are_accepted_on_by_a_sibling_until_it_serves_again() {
        let mut all = seats(&[true, true, true]);
        assert_eq!(adoptions(&mut all), []);
        all[1].died(Instant::now());
        all[0].beat.connections = 9;
        assert_eq!(adoptions(&mut all), [Adoption::Adopt { by: 2, index: 1 }]);
        assert_eq!(adoptions(&mut all), []);
        // The adopter dies as well: both go to the last one.
        all[2].died(Instant::now());
        let both = [
            Adoption::Adopt { by: 0, index: 1 },
            Adoption::Adopt { by: 0, index: 2 },
        ];
        assert_eq!(adoptions(&mut all), both);
        all[1].phase = Phase::Serving {
            since: Instant::now(),
        };
        assert_eq!(adoptions(&mut all), [Adoption::Disown { by: 0, index: 1 }]);
        all[0].died(Instant::now());
        let moved = [
            Adoption::Adopt { by: 1, index: 0 },
            Adoption::Adopt { by: 1, index: 2 },
        ];
        assert_eq!(adoptions(&mut all), moved);
    }

    #[test]
    fn a_quiet_child_is_helped_at_once_and_killed_only_if_it_had_a_processor() {
        let second = Duration::from_secs(1);
        let mut all = seats(&[true, true]);
        assert_eq!(all[1].judge(second * 2, second * 7), Silence::Quiet);
        assert_eq!(adoptions(&mut all), [Adoption::Adopt { by: 0, index: 1 }]);
        assert_eq!(all[1].judge(second * 5, second * 7), Silence::Short);
        // Of nine seconds of silence it was to have a processor in five.
        assert_eq!(all[1].judge(second * 9, second * 11), Silence::Short);
        assert_eq!(all[1].judge(second * 10, second * 11), Silence::Stuck);
        assert!(all[1].hear(second * 10));
        assert_eq!(adoptions(&mut all), [Adoption::Disown { by: 0, index: 1 }]);
        assert!(!all[1].hear(second * 11));
    }

    #[test]
    fn with_no_child_left_none_waits_out_its_pause() {
        let now = Instant::now();
        let mut all = seats(&[false, false]);
        let soon = |pause| Phase::Dead {
            start_at: now + pause,
        };
        for seat in &mut all {
            for _ in 0..9 {
                seat.phase = Phase::Serving { since: now };
                seat.died(now);
            }
        }
        hasten(&mut all, now);
        assert!(all.iter().all(|seat| seat.phase == soon(ALONE_PAUSE)));
        // Those who die of their start rest longer, for the machine's sake, and still not long.
        for seat in &mut all {
            assert!(!seat.is_futile());
            (0..9).for_each(|_| seat.died(now));
            assert!(seat.is_futile());
        }
        hasten(&mut all, now);
        assert!(all.iter().all(|seat| seat.phase == soon(ALONE_PAUSE_MAX)));
    }

    #[test]
    fn an_answer_that_was_given_up_is_not_taken_for_the_next_one() {
        let mut seat = Seat::new(Instant::now());
        seat.scrapes_open = 2;
        assert!(!seat.answered_last_scrape());
        assert!(seat.answered_last_scrape());
        // Another process has not heard the questions.
        seat.scrapes_open = 1;
        seat.died(Instant::now());
        seat.scrapes_open += 1;
        assert!(seat.answered_last_scrape());
    }

    #[test]
    fn a_child_that_keeps_dying_is_started_again_ever_later_but_always() {
        let mut seat = Seat::new(Instant::now());
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            let now = Instant::now();
            seat.died(now);
            let Phase::Dead { start_at } = seat.phase else {
                panic!("it is dead")
            };
            assert!(start_at - now >= last && start_at - now <= Duration::from_secs(5));
            last = start_at - now;
        }
    }
}
