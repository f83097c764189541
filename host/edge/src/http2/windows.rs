//! How much a client may send before it hears that we took it: as much as is on its way in a round trip, so that a
//! distant client's upload is as fast as its line. A window is only a promise; bytes of it take memory here while
//! whoever wants the body is slower than the client.
//!
//! A round trip is measured with a ping behind the data. If what came meanwhile nearly filled the window, the window
//! was what the client waited for, and is doubled. One window for each stream and one for all streams of the connection,
//! as every stream's alone would let many streams hold many times as much.

use super::{activity::Activity, keep_alive::KeepAlive};
use crate::{Limits, server::Shared};
use bytes::Bytes;
use h2::server;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Context,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

/// The largest window that HTTP/2 knows (RFC 9113, section 6.9.1).
const WINDOW_BYTES_MAX: u32 = i32::MAX as u32;
/// A connection that brought nothing for so long gives back what it was given.
const QUIET: Duration = Duration::from_secs(10);

/// How much comes between two measurements, at most: a client that is near, or slow, is not asked again and again.
const MEASURE_BYTES_MAX: u64 = 16 << 20;

/// Bytes by which the windows of all connections of a server have grown.
#[derive(Debug, Default)]
pub(crate) struct WindowBudget(AtomicUsize);

/// A connection's windows.
pub(super) struct Windows<S> {
    shared: Arc<Shared<S>>,
    activity: Activity,
    /// Window of each stream.
    stream_bytes: u32,
    /// Share of the budget.
    lent_bytes: usize,
    /// Bytes that had come when the ping went out that is on its way.
    measuring_since: Option<u64>,
    /// Bytes that had come when the last one was answered.
    measured: u64,
    /// Bytes that had come when something came last, and when that was.
    seen: u64,
    seen_at: Instant,
    /// Bytes that have to come before the next one.
    pause_bytes: u64,
}

impl<S> Windows<S> {
    pub(super) fn new(shared: Arc<Shared<S>>, activity: Activity) -> Self {
        let stream_bytes = shared.limits.h2_stream_window_bytes;
        Self {
            stream_bytes,
            pause_bytes: stream_bytes.into(),
            shared,
            activity,
            lent_bytes: 0,
            measuring_since: None,
            measured: 0,
            seen: 0,
            seen_at: Instant::now(),
        }
    }

    /// Measures, and opens or shuts. To be polled after the connection.
    pub(super) fn poll<IO>(
        &mut self,
        connection: &mut server::Connection<IO, Bytes>,
        pings: &mut KeepAlive,
        cx: &mut Context<'_>,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let received = self.activity.received();
        if received == 0 {
            return;
        }
        if self.seen != received {
            (self.seen, self.seen_at) = (received, Instant::now());
        }
        if let Some(since) = self.measuring_since {
            if pings.poll_answered(cx).is_pending() {
                return;
            }
            self.measuring_since = None;
            self.measured = received;
            // Two thirds: what was released in the meantime let more come than the window has.
            let filled = (received - since) * 3 >= u64::from(self.stream_bytes) * 2;
            if filled && self.set(self.stream_bytes.saturating_mul(2), connection) {
                self.pause_bytes = self.stream_bytes.into();
            } else {
                self.pause_bytes = (self.pause_bytes * 2).min(MEASURE_BYTES_MAX);
            }
        }
        let base = self.shared.limits.h2_stream_window_bytes;
        let may_grow = self.stream_bytes < self.stream_bytes_max();
        if may_grow && received - self.measured >= self.pause_bytes {
            if pings.ask(cx) {
                self.measuring_since = Some(received);
            }
        } else if self.stream_bytes > base
            && self.seen_at.elapsed() >= QUIET
            && !connection.has_streams()
        {
            self.set(base, connection);
            self.pause_bytes = base.into();
        }
    }

    fn stream_bytes_max(&self) -> u32 {
        let limits = &self.shared.limits;
        limits.h2_stream_window_bytes_max.min(WINDOW_BYTES_MAX)
    }

    /// Sets the windows, if the budget allows it and the client knows the last ones.
    fn set<IO>(&mut self, stream_bytes: u32, connection: &mut server::Connection<IO, Bytes>) -> bool
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = &self.shared.limits;
        let stream_bytes = stream_bytes.min(self.stream_bytes_max());
        let connection_bytes = connection_bytes(limits, stream_bytes);
        let lent_bytes = (connection_bytes - limits.h2_connection_window_bytes) as usize;
        let budget = &self.shared.window_budget;
        if !budget.exchange(self.lent_bytes, lent_bytes, limits.h2_windows_bytes_max) {
            return false;
        }
        if connection.set_initial_window_size(stream_bytes).is_err() {
            budget.exchange(lent_bytes, self.lent_bytes, usize::MAX);
            return false;
        }
        connection.set_target_window_size(connection_bytes);
        (self.lent_bytes, self.stream_bytes) = (lent_bytes, stream_bytes);
        true
    }
}

impl<S> Drop for Windows<S> {
    fn drop(&mut self) {
        let budget = &self.shared.window_budget;
        budget.exchange(self.lent_bytes, 0, 0);
    }
}

/// The window of all streams together where each has so much.
pub(super) fn connection_bytes(limits: &Limits, stream_bytes: u32) -> u32 {
    stream_bytes.max(limits.h2_connection_window_bytes)
}

impl WindowBudget {
    /// Gives back `old` bytes for `new` ones. Whether there are as many.
    fn exchange(&self, old: usize, new: usize, most: usize) -> bool {
        let changed = |lent: usize| {
            let lent = lent.saturating_sub(old) + new;
            (new <= old || lent <= most).then_some(lent)
        };
        self.0.fetch_update(Relaxed, Relaxed, changed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_within_the_budget_of_all_connections() {
        let budget = WindowBudget::default();
        assert!(budget.exchange(0, 60, 100));
        assert!(!budget.exchange(0, 60, 100), "another connection");
        assert!(budget.exchange(0, 40, 100));
        assert!(!budget.exchange(60, 61, 100));
        assert!(budget.exchange(60, 0, 100));
        assert!(budget.exchange(40, 100, 100));
    }
}
