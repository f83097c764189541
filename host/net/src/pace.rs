//! Measures the pace of the other side while it is waited for: it may not stand still for long, and over some time of
//! waiting it must get something done. Time in which nobody waits for it counts for nothing.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// Pace that the other side has to keep.
#[derive(Clone, Copy, Debug)]
pub struct PaceRule {
    /// Longest wait between two bytes.
    pub still_max: Duration,
    /// Time of waiting over which the rate is measured.
    pub window: Duration,
    /// Least rate over the window.
    pub bytes_per_s_min: u32,
}

impl PaceRule {
    /// Whether `bytes` are enough for a window of waiting.
    pub fn is_met(&self, bytes: u64) -> bool {
        bytes as f64 >= f64::from(self.bytes_per_s_min) * self.window.as_secs_f64()
    }
}

/// Meter of the other side's pace.
#[derive(Default)]
pub struct PaceMeter {
    /// Time waited in this window, without the wait that goes on.
    waited: Duration,
    /// Bytes in this window.
    bytes: u64,
    /// Time waited since the other side last moved, without the wait that goes on.
    still: Duration,
    /// Begin and timer of the wait that goes on.
    wait: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl PaceMeter {
    /// Notes that the other side moved; whoever waited has something to do.
    #[inline]
    pub fn moved(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.pause();
    }

    /// Notes that nobody waits for the other side.
    #[inline]
    pub fn pause(&mut self) {
        if let Some((since, _)) = self.wait.take() {
            self.waited += since.elapsed();
        }
        self.still = Duration::ZERO;
    }

    /// Notes that the other side is waited for. Ready when it is too slow.
    pub fn poll_too_slow(&mut self, rule: &PaceRule, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let left = (rule.still_max.saturating_sub(self.still))
                .min(rule.window.saturating_sub(self.waited));
            let (since, timer) = self
                .wait
                .get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
            ready!(timer.as_mut().poll(cx));
            let waited = since.elapsed();
            self.wait = None;
            self.waited += waited;
            self.still += waited;
            if self.still >= rule.still_max {
                return Poll::Ready(());
            }
            if self.waited >= rule.window {
                if !rule.is_met(self.bytes) {
                    return Poll::Ready(());
                }
                (self.waited, self.bytes) = (Duration::ZERO, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::time::timeout;

    /// A window is longer than a busy machine stalls.
    const RULE: PaceRule = PaceRule {
        still_max: Duration::from_millis(3_000),
        window: Duration::from_millis(1_000),
        bytes_per_s_min: 100,
    };
    const STEP: Duration = Duration::from_millis(100);

    async fn waits(pace: &mut PaceMeter, time: Duration) -> bool {
        let slow = poll_fn(|cx| pace.poll_too_slow(&RULE, cx));
        timeout(time, slow).await.is_ok()
    }

    #[tokio::test]
    async fn a_trickle_is_too_slow_and_a_thin_stream_is_not() {
        // 100 bytes are asked of a window.
        for (bytes, slow) in [(1, true), (200, false)] {
            let mut pace = PaceMeter::default();
            let mut ended = false;
            for _ in 0..25 {
                ended = ended || waits(&mut pace, STEP).await;
                pace.moved(bytes);
            }
            assert_eq!(ended, slow, "{bytes}");
        }
    }

    #[tokio::test]
    async fn time_in_which_nobody_waits_counts_for_nothing() {
        let mut pace = PaceMeter::default();
        for _ in 0..5 {
            assert!(!waits(&mut pace, STEP / 10).await);
            pace.pause();
            tokio::time::sleep(STEP * 5).await;
        }
    }

    #[tokio::test]
    async fn a_burst_does_not_pay_for_a_long_silence() {
        let mut pace = PaceMeter::default();
        pace.moved(1 << 30);
        assert!(!waits(&mut pace, STEP * 11).await);
        assert!(waits(&mut pace, STEP * 20).await);
    }
}
