//! Keep-alive: after a silence the other side of a connection is pinged, and has to answer.

use h2::{Ping, PingPong};
use protoplex_net::Timer;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// Bytes of the answer to a ping.
const PONG_BYTES: u64 = 17;

/// Pings of one connection.
pub struct KeepAlive {
    pings: PingPong,
    /// Silence after which a ping is sent.
    interval: Duration,
    /// Interval while the other side answers pings and says nothing else.
    quiet_interval: Duration,
    /// Whether nothing but the answer to a ping came last.
    quiet: bool,
    /// Longest wait for something to come after a ping.
    timeout: Duration,
    timer: Timer,
    /// Counter of the bytes that came on the connection.
    heard: Arc<AtomicU64>,
    heard_before: u64,
    /// Begin of the silence that counts, or of the wait for an answer.
    since: Instant,
    asked: bool,
}

impl KeepAlive {
    /// Pings after a silence of `interval`; something has to come within `timeout` then. `heard` counts the bytes that
    /// came.
    pub fn new(
        pings: PingPong,
        heard: Arc<AtomicU64>,
        interval: Duration,
        timeout: Duration,
    ) -> Self {
        Self {
            pings,
            interval,
            quiet_interval: interval,
            quiet: false,
            timeout,
            timer: Timer::default(),
            heard_before: heard.load(Relaxed),
            heard,
            since: Instant::now(),
            asked: false,
        }
    }

    /// Starts keep-alive, and pings at once: see [`Self::poll_answered`].
    pub fn greeting(
        mut pings: PingPong,
        heard: Arc<AtomicU64>,
        interval: Duration,
        timeout: Duration,
    ) -> Self {
        // Fails for a connection that is over, which its task notices.
        let _ = pings.send_ping(Ping::opaque());
        Self::new(pings, heard, interval, timeout)
    }

    /// Pings less often from the moment on at which the other side answers pings and says nothing else: some servers
    /// take many pings on a silent connection for an attack.
    pub fn seldom_in_quiet(mut self, interval: Duration) -> Self {
        self.quiet_interval = interval;
        self
    }

    /// Sends a ping now. Returns whether no other was on its way.
    pub fn ask(&mut self, cx: &mut Context<'_>) -> bool {
        // An answer that nobody has looked at is in the way of the next question.
        let _ = self.pings.poll_pong(cx);
        self.pings.send_ping(Ping::opaque()).is_ok() && self.pings.poll_pong(cx).is_pending()
    }

    /// Ready once when the last ping is answered.
    pub fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.pings.poll_pong(cx).map(drop)
    }

    /// Ready when the other side is gone. To be polled after the connection, whenever that was.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let heard = self.heard.load(Relaxed);
        if heard != self.heard_before {
            let is_pong = heard - self.heard_before == PONG_BYTES;
            self.quiet = is_pong && (self.asked || self.quiet);
            self.heard_before = heard;
            (self.asked, self.since) = (false, Instant::now());
        }
        loop {
            let patience = match (self.asked, self.quiet) {
                (true, _) => self.timeout,
                (false, true) => self.quiet_interval,
                (false, false) => self.interval,
            };
            ready!(self.timer.poll_until(self.since + patience, cx));
            if self.asked {
                return Poll::Ready(());
            }
            (self.asked, self.since) = (true, Instant::now());
            // Takes the answer to the last ping, if it came. One that is still out is as good as another.
            let _ = self.pings.poll_pong(cx);
            let _ = self.pings.send_ping(Ping::opaque());
        }
    }

    /// Begins the silence anew: something came, or nothing was expected to.
    pub fn excuse(&mut self) {
        (self.asked, self.quiet, self.since) = (false, false, Instant::now());
    }
}

#[cfg(test)]
mod tests;
