//! Leaving in order: readiness flips, the Seed takes the node out of every other node's sight, and only then it
//! drains. Until then it serves as always.

use super::{actor::Actor, children::Seat};
use protoplex_wire::link::{FromNode, LEAVE_MS_MAX};
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

/// The Seed lets go by its own deadline; this is for a Seed that says nothing, and some more than that.
const LEAVE_WAIT_MAX: Duration = Duration::from_millis(LEAVE_MS_MAX + 1_000);
/// Without a Seed nobody can be told. Load balancers that look at readiness have a moment, and so has a Seed that is
/// just starting again.
const ALONE_WAIT: Duration = Duration::from_millis(500);
/// Requests that another node had decided on just before it acknowledged are on the wire by then, and accepted here.
const LINGER: Duration = Duration::from_millis(200);

impl Actor {
    /// Begins to leave.
    pub(super) async fn leave(&mut self) {
        tracing::info!("leaving");
        self.ready.store(false, Relaxed);
        let wait = match (&self.seed, self.seats.iter().any(Seat::serves)) {
            (_, false) => Duration::ZERO,
            (None, true) => ALONE_WAIT,
            (Some(_), true) => LEAVE_WAIT_MAX,
        };
        let now = Instant::now();
        let seen = now + Duration::from_millis(self.config.ingress.drain_delay_ms);
        self.leaving_not_before = Some(seen);
        self.leaving = Some(seen.max(now + wait));
        self.tell_seed(FromNode::Leaving);
    }

    /// The Seed is gone: its word is not waited for.
    pub(super) fn leave_alone(&mut self) {
        self.leave_within(ALONE_WAIT);
    }

    /// Nothing new comes any more.
    pub(super) fn let_go(&mut self) {
        tracing::info!("no node sends anything new here");
        self.leave_within(LINGER);
    }

    fn leave_within(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        let at = self.leaving_not_before.map_or(at, |seen| seen.max(at));
        self.leaving = self.leaving.map(|until| until.min(at));
    }
}
