//! When a connection closes after it was told to go.

use crate::Connections;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Time for which a client that was just let in does not count as idle: a request takes a round trip to come, and those
/// around the world take a third of a second.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);

impl Connections {
    /// Returns when an idle connection has to close: some time after `leaving` was cancelled, so that not all clients
    /// come back to another node at once.
    pub async fn leave(&self, leaving: &CancellationToken) {
        leaving.cancelled().await;
        let limits = self.limits();
        let needed_s = self.open() as f64 / f64::from(limits.drain_closes_per_s.max(1));
        let window_s = needed_s.min(limits.drain_window.as_secs_f64());
        let wait = Duration::from_secs_f64(window_s * rand::random::<f64>());
        // On the heap: an idle connection does not carry the timer of a drain.
        Box::pin(sleep(wait)).await;
    }

    /// Waits as [`Self::leave`] does, then for the first request of a client that has asked for nothing `since` it was
    /// let in: the request may be on its way.
    pub async fn leave_unasked(&self, leaving: &CancellationToken, since: Instant) {
        self.leave(leaving).await;
        Box::pin(sleep_until(since + FIRST_REQUEST_WAIT)).await;
    }

    /// Waits as [`Self::leave`] does, for a caller outside the connection's task.
    pub async fn leave_later(self, leaving: CancellationToken) {
        self.leave(&leaving).await;
    }
}
