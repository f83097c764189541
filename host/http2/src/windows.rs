//! Windows: bytes that the other side of a connection may send before it hears that we took them. They are as much as
//! is on its way in a round trip, so that a distant client's upload, or a distant server's response, is as fast as its
//! line. A window is only a promise; bytes of it take memory here while whoever wants the body is slower than the
//! sender.
//!
//! A round trip is measured with a ping behind the data. If what came meanwhile nearly filled the window, the window
//! was what the sender waited for, and is doubled. There is one window for each stream and one for all streams of the
//! connection, since every stream's alone would let many streams hold many times as much.

use crate::keep_alive::KeepAlive;
use bytes::Bytes;
use h2::{client, server};
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

/// Largest window of HTTP/2 (RFC 9113, section 6.9.1).
const WINDOW_BYTES_MAX: u32 = i32::MAX as u32;
/// Time after which a connection that brought nothing gives back what its windows grew by.
const QUIET: Duration = Duration::from_secs(10);

/// Most bytes that come between two measurements: a sender that is near, or slow, is not asked again and again.
const MEASURE_BYTES_MAX: u64 = 16 << 20;

/// Bytes by which the windows of many connections have grown.
#[derive(Debug, Default)]
pub struct WindowBudget(AtomicUsize);

/// Sizes that the windows of a connection may have.
#[derive(Clone, Copy, Debug)]
pub struct WindowSizes {
    /// Window of each stream, to begin with.
    pub stream_bytes: u32,
    /// Largest window of a stream, where a round trip fills what it has.
    pub stream_bytes_max: u32,
    /// Window of all streams of a connection, or of one stream if that has more.
    pub connection_bytes: u32,
    /// Bytes that all connections of one budget may grow by.
    pub growth_bytes_max: usize,
}

impl WindowSizes {
    /// Window of all streams together, where each has `stream_bytes`.
    pub fn connection_bytes(&self, stream_bytes: u32) -> u32 {
        stream_bytes.max(self.connection_bytes)
    }

    fn stream_bytes_max(&self) -> u32 {
        self.stream_bytes_max.min(WINDOW_BYTES_MAX)
    }
}

/// A connection whose windows can be set, whichever side we are.
pub trait Receiving {
    /// Sets every stream's window. Fails before the other side has acknowledged the last one.
    fn set_stream_bytes(&mut self, bytes: u32) -> Result<(), h2::Error>;

    /// Sets the window of all streams together.
    fn set_connection_bytes(&mut self, bytes: u32);
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Receiving for server::Connection<IO, Bytes> {
    fn set_stream_bytes(&mut self, bytes: u32) -> Result<(), h2::Error> {
        self.set_initial_window_size(bytes)
    }

    fn set_connection_bytes(&mut self, bytes: u32) {
        self.set_target_window_size(bytes);
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Receiving for client::Connection<IO, Bytes> {
    fn set_stream_bytes(&mut self, bytes: u32) -> Result<(), h2::Error> {
        self.set_initial_window_size(bytes)
    }

    fn set_connection_bytes(&mut self, bytes: u32) {
        self.set_target_window_size(bytes);
    }
}

/// Windows of one connection.
pub struct Windows {
    sizes: WindowSizes,
    budget: Arc<WindowBudget>,
    /// Window of each stream.
    stream_bytes: u32,
    /// Bytes that were taken of the budget.
    lent_bytes: usize,
    /// Bytes that had come when the ping was sent that is on its way.
    measuring_since: Option<u64>,
    /// Bytes that had come when the last ping was answered.
    measured: u64,
    /// Bytes that had come when something came last, and the time of that.
    seen: u64,
    seen_at: Instant,
    /// Bytes that have to come before the next ping.
    pause_bytes: u64,
}

impl Windows {
    /// Begins with the least sizes. `budget` bounds what the windows of many connections grow by.
    pub fn new(sizes: WindowSizes, budget: &Arc<WindowBudget>) -> Self {
        Self {
            sizes,
            budget: Arc::clone(budget),
            stream_bytes: sizes.stream_bytes,
            pause_bytes: sizes.stream_bytes.into(),
            lent_bytes: 0,
            measuring_since: None,
            measured: 0,
            seen: 0,
            seen_at: Instant::now(),
        }
    }

    /// Measures, and widens or narrows the windows. To be polled after the connection: `received` bytes have come on it
    /// so far, and `is_used` says whether it has streams.
    pub fn poll(
        &mut self,
        received: u64,
        is_used: bool,
        connection: &mut impl Receiving,
        pings: &mut KeepAlive,
        cx: &mut Context<'_>,
    ) {
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
            // Two thirds are enough: what was released in the meantime let more come than the window has.
            let filled = (received - since) * 3 >= u64::from(self.stream_bytes) * 2;
            if filled && self.set(self.stream_bytes.saturating_mul(2), connection) {
                self.pause_bytes = self.stream_bytes.into();
            } else {
                self.pause_bytes = (self.pause_bytes * 2).min(MEASURE_BYTES_MAX);
            }
        }
        let base = self.sizes.stream_bytes;
        let may_grow = self.stream_bytes < self.sizes.stream_bytes_max();
        if may_grow && received - self.measured >= self.pause_bytes {
            if pings.ask(cx) {
                self.measuring_since = Some(received);
            }
        } else if self.stream_bytes > base && self.seen_at.elapsed() >= QUIET && !is_used {
            self.set(base, connection);
            self.pause_bytes = base.into();
        }
    }

    /// Sets the windows, if the budget allows it and the other side knows the last ones.
    fn set(&mut self, stream_bytes: u32, connection: &mut impl Receiving) -> bool {
        let stream_bytes = stream_bytes.min(self.sizes.stream_bytes_max());
        let connection_bytes = self.sizes.connection_bytes(stream_bytes);
        let lent_bytes = (connection_bytes - self.sizes.connection_bytes) as usize;
        let (budget, most) = (&self.budget, self.sizes.growth_bytes_max);
        if !budget.exchange(self.lent_bytes, lent_bytes, most) {
            return false;
        }
        if connection.set_stream_bytes(stream_bytes).is_err() {
            budget.exchange(lent_bytes, self.lent_bytes, usize::MAX);
            return false;
        }
        connection.set_connection_bytes(connection_bytes);
        (self.lent_bytes, self.stream_bytes) = (lent_bytes, stream_bytes);
        true
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.budget.exchange(self.lent_bytes, 0, 0);
    }
}

impl WindowBudget {
    /// Exchanges `old` bytes for `new` ones. Returns whether there were as many.
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
