//! Leaving in order: readiness flips, the Seed takes the node out of every other node's sight, and only then it
//! drains. Until then it serves as always.

use crate::{config::NodeConfig, seed_voice::SeedVoice, supervisor::Supervisor};
use protoplex_control::messages::HAND_OVER_MAX;
use protoplex_wire::link::{FromNode, LEAVE_MS_MAX};
use std::time::{Duration, Instant};

/// The Seed lets go by its own deadline; this is for a Seed that says nothing, and some more than that.
const LEAVE_WAIT_MAX: Duration = Duration::from_millis(LEAVE_MS_MAX + 1_000);
/// Without a Seed nobody can be told. Load balancers that look at readiness have a moment, and so has a Seed that is
/// just starting again.
const ALONE_WAIT: Duration = Duration::from_millis(500);
/// Requests that another node had decided on just before it acknowledged are on the wire by then, and accepted here.
const LINGER: Duration = Duration::from_millis(200);
/// Children get this much longer than their drain deadline before they are killed: they may have channels to hand over.
const DRAIN_SLACK: Duration = HAND_OVER_MAX.saturating_add(Duration::from_secs(1));
/// Children have taken in by then who had come before they were told to drain.
const SHUT_AFTER: Duration = Duration::from_millis(50);

/// How long the steps of leaving take at most, from the node's configuration.
pub(crate) struct LeaveTimes {
    /// Time that load balancers have to see that the node is not ready any more.
    pub(crate) drain_delay: Duration,
    /// Time that requests in flight have once the node drains.
    pub(crate) drain_timeout: Duration,
}

impl LeaveTimes {
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self {
            drain_delay: Duration::from_millis(config.ingress.drain_delay_ms),
            drain_timeout: Duration::from_millis(config.drain_timeout_ms),
        }
    }
}

/// Whether the node leaves, and the deadlines of that.
pub(crate) struct Leaving {
    times: LeaveTimes,
    phase: LeavePhase,
}

enum LeavePhase {
    Staying,
    /// The node waits until `until` for the Seed's word before it drains.
    Leaving {
        until: Instant,
        /// Load balancers have until then to see that the node is not ready any more.
        not_before: Instant,
    },
    Draining {
        /// When the sockets are shut; `None` once they are.
        shut_at: Option<Instant>,
        /// When children that have not drained are killed, by the time in which this process ran.
        deadline: Duration,
    },
}

impl Leaving {
    /// The node stays for now.
    pub(crate) fn new(times: LeaveTimes) -> Self {
        Self {
            times,
            phase: LeavePhase::Staying,
        }
    }

    /// Whether the node is on its way out: it leaves, or drains already.
    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.phase, LeavePhase::Staying)
    }

    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.phase, LeavePhase::Draining { .. })
    }

    /// Begins to leave, and says so to the Seed.
    pub(crate) fn begin(&mut self, supervisor: &Supervisor, seed: &mut SeedVoice) {
        tracing::info!("the node leaves the fleet, and drains after that");
        let wait = match (seed.is_connected(), supervisor.any_serves()) {
            (_, false) => Duration::ZERO,
            (false, true) => ALONE_WAIT,
            (true, true) => LEAVE_WAIT_MAX,
        };
        self.leave(Instant::now(), wait);
        seed.tell(FromNode::Leaving);
    }

    fn leave(&mut self, now: Instant, wait: Duration) {
        let not_before = now + self.times.drain_delay;
        self.phase = LeavePhase::Leaving {
            until: not_before.max(now + wait),
            not_before,
        };
    }

    /// The Seed is gone: its word is not waited for.
    pub(crate) fn seed_lost(&mut self) {
        self.leave_within(Instant::now(), ALONE_WAIT);
    }

    /// The Seed says that no node sends anything new here.
    pub(crate) fn seed_let_go(&mut self) {
        tracing::info!("no node of the fleet sends anything new here");
        self.leave_within(Instant::now(), LINGER);
    }

    fn leave_within(&mut self, now: Instant, wait: Duration) {
        if let LeavePhase::Leaving { until, not_before } = &mut self.phase {
            *until = (*until).min((now + wait).max(*not_before));
        }
    }

    /// Begins to drain if it is time. Returns whether it was: then children are to be told. `awake` is the time in which
    /// this process ran: by that the drain has its deadline, as silence has.
    pub(crate) fn begins_to_drain(&mut self, now: Instant, awake: Duration) -> bool {
        if !matches!(self.phase, LeavePhase::Leaving { until, .. } if until <= now) {
            return false;
        }
        tracing::info!("the node drains");
        self.phase = LeavePhase::Draining {
            shut_at: Some(now + SHUT_AFTER),
            deadline: awake + self.times.drain_timeout + DRAIN_SLACK,
        };
        true
    }

    /// Whether it is time, once, to shut the sockets.
    pub(crate) fn shuts_sockets(&mut self, now: Instant) -> bool {
        match &mut self.phase {
            LeavePhase::Draining { shut_at, .. } => shut_at.take_if(|at| *at <= now).is_some(),
            _ => false,
        }
    }

    /// Whether the node has drained, or its children have had the time for it.
    pub(crate) fn is_over(&self, supervisor: &Supervisor) -> bool {
        match self.phase {
            LeavePhase::Draining { deadline, .. } => {
                supervisor.all_gone() || supervisor.awake() > deadline
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaving(drain_delay: Duration) -> Leaving {
        Leaving::new(LeaveTimes {
            drain_delay,
            drain_timeout: Duration::from_secs(9),
        })
    }

    /// When the node begins to drain, after `now`.
    fn drains_after(leaving: &mut Leaving, now: Instant) -> Duration {
        let steps = (0..100_000).map(Duration::from_millis);
        let mut steps = steps.filter(|&step| leaving.begins_to_drain(now + step, Duration::ZERO));
        steps.next().expect("it drains at some time")
    }

    #[test]
    fn the_seeds_word_shortens_the_wait_and_never_lengthens_it() {
        let now = Instant::now();
        let mut silent = leaving(Duration::ZERO);
        silent.leave(now, LEAVE_WAIT_MAX);
        assert_eq!(drains_after(&mut silent, now), LEAVE_WAIT_MAX);
        let mut told = leaving(Duration::ZERO);
        told.leave(now, LEAVE_WAIT_MAX);
        told.leave_within(now, LINGER);
        told.leave_within(now, ALONE_WAIT);
        assert_eq!(drains_after(&mut told, now), LINGER);
    }

    #[test]
    fn load_balancers_have_their_time_whatever_the_seed_says() {
        let (now, delay) = (Instant::now(), Duration::from_secs(2));
        let mut leaving = leaving(delay);
        leaving.leave(now, Duration::ZERO);
        leaving.leave_within(now, LINGER);
        assert_eq!(drains_after(&mut leaving, now), delay);
    }

    #[test]
    fn a_node_that_stays_is_let_go_by_nobody() {
        let now = Instant::now();
        let mut leaving = leaving(Duration::ZERO);
        leaving.seed_lost();
        leaving.seed_let_go();
        assert!(!leaving.has_begun());
        assert!(!leaving.begins_to_drain(now + LEAVE_WAIT_MAX * 9, Duration::ZERO));
    }

    #[test]
    fn a_drain_shuts_the_sockets_once_and_a_moment_later() {
        let now = Instant::now();
        let mut leaving = leaving(Duration::ZERO);
        leaving.leave(now, Duration::ZERO);
        assert!(!leaving.shuts_sockets(now + SHUT_AFTER));
        assert!(leaving.begins_to_drain(now, Duration::ZERO));
        assert!(leaving.is_draining() && leaving.has_begun());
        assert!(!leaving.shuts_sockets(now));
        assert!(leaving.shuts_sockets(now + SHUT_AFTER));
        assert!(!leaving.shuts_sockets(now + SHUT_AFTER));
        assert!(!leaving.begins_to_drain(now, Duration::ZERO), "only once");
    }
}
