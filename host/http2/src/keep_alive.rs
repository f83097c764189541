//! Whether the other side of a connection still lives: after a silence it is asked, and has to answer.

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

/// The answer to a ping on the wire.
const PONG_BYTES: u64 = 17;

/// The questions to the other side of one connection.
pub struct KeepAlive {
    pings: PingPong,
    /// A silence of this long makes us ask.
    interval: Duration,
    /// Interval as long as the other side answers pings and says nothing else.
    quiet_interval: Duration,
    /// Nothing but the answer to a ping came last.
    quiet: bool,
    /// Then something has to come within this.
    timeout: Duration,
    timer: Timer,
    /// Bytes that came on the connection.
    heard: Arc<AtomicU64>,
    heard_before: u64,
    /// The silence that counts began here, or the question was asked.
    since: Instant,
    asked: bool,
}

impl KeepAlive {
    /// Asks after a silence of `interval`; something has to come within `timeout` then. `heard` counts the bytes that came.
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

    /// Starts keep-alive, and asks at once: see [`Self::poll_answered`].
    pub fn greeting(
        mut pings: PingPong,
        heard: Arc<AtomicU64>,
        interval: Duration,
        timeout: Duration,
    ) -> Self {
        // Fails for a connection that is over.
        let _ = pings.send_ping(Ping::opaque());
        Self::new(pings, heard, interval, timeout)
    }

    /// Asks whoever answers pings and says nothing else less often from then on: some servers take many pings on a
    /// silent connection for an attack.
    pub fn seldom_in_quiet(mut self, interval: Duration) -> Self {
        self.quiet_interval = interval;
        self
    }

    /// Asks now. Whether nothing was asked before that has no answer yet.
    pub fn ask(&mut self, cx: &mut Context<'_>) -> bool {
        // An answer that nobody has looked at is in the way of the next question.
        let _ = self.pings.poll_pong(cx);
        self.pings.send_ping(Ping::opaque()).is_ok() && self.pings.poll_pong(cx).is_pending()
    }

    /// Ready once when what was asked last is answered.
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
            // Takes the answer to the last one, if it came. One that is still out is as good as another.
            let _ = self.pings.poll_pong(cx);
            let _ = self.pings.send_ping(Ping::opaque());
        }
    }

    /// The silence begins now: something came, or nothing was expected to.
    pub fn excuse(&mut self) {
        (self.asked, self.quiet, self.since) = (false, false, Instant::now());
    }
}

#[cfg(test)]
mod tests;
