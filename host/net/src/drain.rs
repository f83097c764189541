//! When a connection has to go that was told to.

use crate::Connections;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// A client that was just let in is no idle one for this long: a request takes a round trip to come, and those around
/// the world take a third of a second.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);

impl Connections {
    /// Returns when an idle connection has to go: some time after it was said to, so that not all of them come back
    /// to somebody else at once.
    pub async fn leave(&self, leaving: &CancellationToken) {
        leaving.cancelled().await;
        let limits = self.limits();
        let needed_s = self.open() as f64 / f64::from(limits.drain_closes_per_s.max(1));
        let window_s = needed_s.min(limits.drain_window.as_secs_f64());
        let wait = Duration::from_secs_f64(window_s * rand::random::<f64>());
        // On the heap: an idle connection does not carry a timer for the day of the drain.
        Box::pin(sleep(wait)).await;
    }

    /// Waits as [`Self::leave`] does, then for the first request of a client that has not asked for anything `since` it
    /// was let in: it may be on its way.
    pub async fn leave_unasked(&self, leaving: &CancellationToken, since: Instant) {
        self.leave(leaving).await;
        Box::pin(sleep_until(since + FIRST_REQUEST_WAIT)).await;
    }

    /// [`Self::leave`], for who is not part of the connection's task.
    pub async fn leave_later(self, leaving: CancellationToken) {
        self.leave(&leaving).await;
    }
}
