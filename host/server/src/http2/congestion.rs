//! Finds out when a connection as a whole takes nothing more: its socket is full, or the client's window for all
//! streams is used up. Then no stream is to blame for what it does not take, but all of them together are.

use protoplex_net::PaceRule;
use std::time::Duration;
use tokio::time::Instant;

/// The client took next to nothing while the connection could take no more.
pub(super) struct TooSlow;

/// Time in which one connection took nothing more.
#[derive(Default)]
pub(super) struct Congestion {
    pub(super) socket_is_full: bool,
    pub(super) window_is_shut: bool,
    /// Begin of the congestion that goes on.
    since: Option<Instant>,
    /// Length of those before it.
    before: Duration,
    /// Totals at the start of the time over which the rate is measured: congestion so far, and bytes written.
    judged: Duration,
    judged_written: u64,
}

impl Congestion {
    /// Notes whether the connection takes nothing more. Returns whether a congestion begins. A window that is used up
    /// matters only while there is something to send.
    pub(super) fn update(
        &mut self,
        is_sending: bool,
        now: Instant,
        written: impl FnOnce() -> u64,
    ) -> bool {
        let is_congested = self.socket_is_full || (self.window_is_shut && is_sending);
        match self.since {
            None if is_congested => {
                if self.before == self.judged {
                    self.judged_written = written();
                }
                self.since = Some(now);
                true
            }
            Some(since) if !is_congested => {
                self.before += now.saturating_duration_since(since);
                self.since = None;
                false
            }
            _ => false,
        }
    }

    /// Length of all congestion so far.
    pub(super) fn total(&self, now: Instant) -> Duration {
        let goes_on = self.since.map(|since| now.saturating_duration_since(since));
        self.before + goes_on.unwrap_or_default()
    }

    /// Time of congestion that is missing until the rate is measured.
    pub(super) fn left(&self, rule: &PaceRule) -> Duration {
        rule.window.saturating_sub(self.before - self.judged)
    }

    /// Measures the rate if it is time for that. Returns the time until the next measurement, while congestion goes on.
    pub(super) fn judge(
        &mut self,
        rule: &PaceRule,
        now: Instant,
        written: u64,
    ) -> Result<Option<Duration>, TooSlow> {
        let waited = self.total(now) - self.judged;
        if waited >= rule.window {
            if !rule.is_met(written - self.judged_written) {
                return Err(TooSlow);
            }
            (self.judged, self.judged_written) = (self.total(now), written);
        }
        let waited = self.total(now) - self.judged;
        let left = rule.window.saturating_sub(waited);
        Ok(self.since.map(|_| left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RULE: PaceRule = PaceRule {
        still_max: SECOND,
        window: SECOND,
        bytes_per_s_min: 100,
    };

    fn full(congestion: &mut Congestion, is_full: bool, now: Instant, written: u64) -> bool {
        congestion.socket_is_full = is_full;
        congestion.update(true, now, || written)
    }

    #[test]
    fn only_time_in_which_nothing_more_is_taken_counts() {
        let (mut congestion, start) = (Congestion::default(), Instant::now());
        let at = |tenths: u32| start + SECOND / 10 * tenths;
        for tenths in (0..18).step_by(2) {
            assert!(full(&mut congestion, true, at(tenths), 0));
            full(&mut congestion, false, at(tenths + 1), 0);
        }
        assert_eq!(congestion.total(at(100)), SECOND / 10 * 9);
        assert!(matches!(congestion.judge(&RULE, at(100), 0), Ok(None)));
        full(&mut congestion, true, at(100), 0);
        assert!(congestion.judge(&RULE, at(101), 99).is_err());
        assert!(congestion.judge(&RULE, at(101), 100).is_ok());
        // The next second has to bring as much again.
        assert!(congestion.judge(&RULE, at(111), 199).is_err());
    }

    #[test]
    fn a_used_up_window_matters_while_something_is_to_be_sent() {
        let (mut congestion, start) = (Congestion::default(), Instant::now());
        congestion.window_is_shut = true;
        assert!(!congestion.update(false, start, || 0));
        assert!(congestion.update(true, start + SECOND, || 0));
        assert_eq!(congestion.total(start + 2 * SECOND), SECOND);
    }
}
