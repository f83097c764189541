//! Budget of retries that a group may add to its requests: a server in trouble must not be made busier by those who try
//! again.

use protoplex_wire::manifest::Retries;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Span of the requests that the budget is a percentage of, in seconds.
const WINDOW_SECONDS: usize = 10;
/// Retries that a child may make in every second, so that a quiet group can retry at all.
const RETRIES_PER_SECOND_MIN: u64 = 3;

/// Requests and retries of the last seconds, and the share of retries that is allowed.
pub(super) struct RetryBudget {
    retries: Retries,
    asked: SecondCounts,
    retried: SecondCounts,
}

impl RetryBudget {
    pub(super) fn new(retries: Retries) -> Self {
        Self {
            retries,
            asked: SecondCounts::default(),
            retried: SecondCounts::default(),
        }
    }

    /// Counts a request that is no retry.
    pub(super) fn asked(&self, second: u64) {
        self.asked.add(second);
    }

    /// Whether one more attempt is allowed after `attempts_made`. Spends the budget for it.
    pub(super) fn spend(&self, attempts_made: u32, second: u64) -> bool {
        if attempts_made > self.retries.attempts_max {
            return false;
        }
        let share = self.asked.total(second) * u64::from(self.retries.budget_percent) / 100;
        let allowed =
            self.retried.total(second) < share || self.retried.at(second) < RETRIES_PER_SECOND_MIN;
        if allowed {
            self.retried.add(second);
        }
        allowed
    }
}

/// Count for each of the last seconds: the second (its low half) in the upper bits, the count below. Two threads at the
/// turn of a second may lose a few, which a budget bears.
#[derive(Default)]
struct SecondCounts([AtomicU64; WINDOW_SECONDS]);

impl SecondCounts {
    fn add(&self, second: u64) {
        let slot = &self.0[second as usize % WINDOW_SECONDS];
        if slot.load(Relaxed) >> 32 == tag(second) {
            slot.fetch_add(1, Relaxed);
        } else {
            slot.store((tag(second) << 32) | 1, Relaxed);
        }
    }

    fn at(&self, second: u64) -> u64 {
        let slot = self.0[second as usize % WINDOW_SECONDS].load(Relaxed);
        if slot >> 32 == tag(second) {
            slot & u64::from(u32::MAX)
        } else {
            0
        }
    }

    fn total(&self, second: u64) -> u64 {
        let first = second.saturating_sub(WINDOW_SECONDS as u64 - 1);
        (first..=second).map(|second| self.at(second)).sum()
    }
}

fn tag(second: u64) -> u64 {
    second & u64::from(u32::MAX)
}
