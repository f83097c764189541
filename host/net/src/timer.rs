//! One timer for a connection's life. Deadlines of requests come and go, nearly all unreached, and each registration
//! with the runtime's wheel costs as much as writing a head: so the timer is only ever set earlier at once, and later
//! when it fires.

use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that may change at each poll.
#[derive(Default)]
pub struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready once `at` has passed. The task may be woken earlier.
    #[inline]
    pub fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if at < sleep.deadline() {
            sleep.as_mut().reset(at);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, time::Duration};

    #[tokio::test]
    async fn it_fires_at_the_deadline_that_holds_whichever_stood_before() {
        const LATE: Duration = Duration::from_secs(20);
        let (mut timer, start) = (Timer::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for (before, now) in [(60_000, 20), (40, 80), (100, 100)] {
            assert!(timer.poll_until(at(before), &mut cx).is_pending());
            poll_fn(|cx| timer.poll_until(at(now), cx)).await;
            assert!(Instant::now() >= at(now) && Instant::now() < at(now) + LATE);
        }
        assert!(
            timer.poll_until(at(100), &mut cx).is_ready(),
            "it has passed"
        );
    }
}
