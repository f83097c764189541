//! Silence in a conversation of a client with the service itself, by a request's body and the response beside it:
//! either side may be silent while the other speaks, and both for a while.

use protoplex_net::Timer;
use std::{
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// Measures for how long both sides have been silent.
pub(crate) struct MutualSilence {
    max: Duration,
    /// Time at which the service said something last.
    spoken: Instant,
    timer: Timer,
}

impl MutualSilence {
    /// Begins with the response's head. `max` is the longest silence of both.
    pub(crate) fn new(max: Duration) -> Self {
        Self {
            max,
            spoken: Instant::now(),
            timer: Timer::default(),
        }
    }

    /// Notes that the service said something.
    pub(crate) fn spoke(&mut self) {
        self.spoken = Instant::now();
    }

    /// Ready when both have been silent for too long. To be polled while the service says nothing; `awaited` is since
    /// when somebody waits for the client, if anybody does: a service that does something else is not cut.
    pub(crate) fn poll_over(&mut self, awaited: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let since = match awaited {
            Some(awaited) => awaited.max(self.spoken),
            // Nobody tells when such a wait begins: it is looked at again before it can have lasted.
            None => Instant::now(),
        };
        ready!(self.timer.poll_until(since + self.max, cx));
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::time::{sleep, timeout};

    const MAX: Duration = Duration::from_millis(200);
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn over(silence: &mut MutualSilence, awaited: Option<Instant>) {
        poll_fn(|cx| silence.poll_over(awaited, cx)).await;
    }

    #[tokio::test]
    async fn silence_begins_with_the_last_word_of_either_side() {
        let mut silence = MutualSilence::new(MAX);
        let awaited = Instant::now();
        sleep(MAX / 2).await;
        silence.spoke();
        let spoken = Instant::now();
        over(&mut silence, Some(awaited)).await;
        assert!(spoken.elapsed() >= MAX);
        let awaited = Instant::now();
        over(&mut silence, Some(awaited)).await;
        assert!(awaited.elapsed() >= MAX);
    }

    #[tokio::test]
    async fn a_service_that_does_not_listen_is_not_cut() {
        let mut silence = MutualSilence::new(MAX);
        let ended = timeout(MAX * 4, over(&mut silence, None)).await;
        assert!(ended.is_err());
        // The service listens from now on.
        let awaited = Instant::now();
        let ended = timeout(PATIENCE, over(&mut silence, Some(awaited))).await;
        assert!(ended.is_ok() && awaited.elapsed() >= MAX);
    }
}
