//! Time in which this process ran. A machine that is paused, or has no processor to give, stands still between two
//! looks at the clock: what others did not say meanwhile means nothing.

use std::time::{Duration, Instant};
use tokio::time::timeout as step_timeout;

/// The longest part of a gap between two looks at the clock that counts as time. More than a busy process takes
/// between looks, and well below every silence that is judged.
const STEP_MAX: Duration = Duration::from_millis(500);

/// Clock of the time in which this process ran. Somebody has to look at it several times a second.
#[derive(Debug)]
pub struct Awake {
    looked: Instant,
    total: Duration,
}

impl Awake {
    /// A clock that begins now.
    pub fn new(now: Instant) -> Self {
        Self {
            looked: now,
            total: Duration::ZERO,
        }
    }

    /// Goes on to `now`, by one step at most.
    pub fn advance(&mut self, now: Instant) -> Duration {
        self.total += now.saturating_duration_since(self.looked).min(STEP_MAX);
        self.looked = now;
        self.total
    }

    /// The time of the last look.
    pub fn last(&self) -> Duration {
        self.total
    }
}

/// The output of `future`, or `None` where it took longer than `max`. Time in which this process did not run counts for
/// one step at most.
pub async fn timeout<F: Future>(max: Duration, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut left = max;
    while !left.is_zero() {
        let step = left.min(STEP_MAX);
        if let Ok(output) = step_timeout(step, &mut future).await {
            return Some(output);
        }
        left -= step;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_this_process_stood_still_is_nobodys_silence() {
        let start = Instant::now();
        let mut awake = Awake::new(start);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(awake.advance(at(300)), Duration::from_millis(300));
        assert_eq!(awake.advance(at(8_300)), Duration::from_millis(800));
        assert_eq!(awake.advance(at(8_400)), awake.last());
        assert_eq!(awake.last(), Duration::from_millis(900));
    }

    #[tokio::test]
    async fn a_timeout_counts_steps_and_no_gaps() {
        let max = STEP_MAX + STEP_MAX / 2;
        let started = Instant::now();
        assert_eq!(timeout(max, std::future::pending::<()>()).await, None);
        assert!(started.elapsed() >= max);
        let late = async {
            // This thread stands still, as in a process that was stopped.
            std::thread::sleep(max * 2);
            tokio::time::sleep(STEP_MAX / 10).await;
        };
        assert_eq!(timeout(max, late).await, Some(()));
    }
}
