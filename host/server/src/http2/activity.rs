//! Whether an HTTP/2 connection still does anything. Streams come and go in tasks of their own, and a client that opens
//! none, or takes too little of them all together, must not hold a connection for ever.

use super::congestion::{Congestion, TooSlow};
use parking_lot::Mutex;
use protoplex_net::PaceRule;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Activity of a connection's streams, shared by them and the connection's task.
#[derive(Clone)]
pub(super) struct Activity(Arc<ActivityInner>);

/// Why a connection is not worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QuietReason {
    /// Nothing moves on the connection.
    Idle,
    /// Replies are ready, and the client takes next to nothing of them all.
    Slow,
}

struct ActivityInner {
    state: Mutex<ConnectionProgress>,
    /// Pace at which a client has to take replies.
    rule: PaceRule,
    /// Bytes of replies that the socket took.
    written: AtomicU64,
    /// Number of bytes that came.
    heard: Arc<AtomicU64>,
    /// Number of bytes of requests' bodies that came.
    received: AtomicU64,
    /// Heads and pieces of replies that were ready since somebody asked.
    pieces: AtomicU64,
    /// Notified when another deadline counts: the first request is there, or the connection takes nothing more.
    changed: Notify,
}

struct ConnectionProgress {
    /// Number of streams that wait for the service; the client is not to blame.
    busy: usize,
    /// Number of streams whose client has to take something.
    sending: usize,
    /// Time at which something last moved, and bytes written by then.
    moved: Instant,
    moved_written: u64,
    /// Whether there was a request.
    asked: bool,
    congestion: Congestion,
    /// Time at which the connection's task looks next.
    look_at: Instant,
}

impl Activity {
    pub(super) fn new(rule: PaceRule) -> Self {
        let now = Instant::now();
        let state = ConnectionProgress {
            busy: 0,
            sending: 0,
            moved: now,
            moved_written: 0,
            asked: false,
            congestion: Congestion::default(),
            look_at: now,
        };
        Self(Arc::new(ActivityInner {
            state: Mutex::new(state),
            rule,
            written: AtomicU64::default(),
            heard: Arc::default(),
            received: AtomicU64::default(),
            pieces: AtomicU64::default(),
            changed: Notify::new(),
        }))
    }

    /// Counter of the bytes that come, for the socket.
    pub(super) fn heard(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.heard)
    }

    /// Notes that the socket took bytes of replies.
    pub(super) fn wrote(&self, bytes: u64) {
        self.0.written.fetch_add(bytes, Relaxed);
    }

    /// Notes bytes that came, and how many of them were bodies'.
    pub(super) fn came(&self, bytes: u64, of_bodies: u64) {
        self.0.heard.fetch_add(bytes, Relaxed);
        self.0.received.fetch_add(of_bodies, Relaxed);
    }

    /// Bytes of requests' bodies that came so far.
    pub(super) fn received(&self) -> u64 {
        self.0.received.load(Relaxed)
    }

    /// Takes the number of heads and pieces of replies that were ready since the last call.
    pub(super) fn take_pieces(&self) -> u64 {
        match self.0.pieces.load(Relaxed) {
            0 => 0,
            _ => self.0.pieces.swap(0, Relaxed),
        }
    }

    /// Pace at which a client has to take replies.
    pub(super) fn rule(&self) -> &PaceRule {
        &self.0.rule
    }

    /// Notes whether the socket takes nothing more.
    pub(super) fn socket_is_full(&self, is_full: bool) {
        self.congestion(|congestion| congestion.socket_is_full = is_full);
    }

    /// Notes whether the client's window for the whole connection is used up.
    pub(super) fn window_is_shut(&self, is_shut: bool) {
        self.congestion(|congestion| congestion.window_is_shut = is_shut);
    }

    fn congestion(&self, change: impl FnOnce(&mut Congestion)) {
        let mut state = self.0.state.lock();
        change(&mut state.congestion);
        self.congested_or_not(&mut state, Instant::now());
    }

    fn congested_or_not(&self, state: &mut ConnectionProgress, now: Instant) {
        let (shared, sending) = (&self.0, state.sending > 0);
        let written = || shared.written.load(Relaxed);
        if state.congestion.update(sending, now, written)
            && now + state.congestion.left(&shared.rule) < state.look_at
        {
            shared.changed.notify_one();
        }
    }

    /// Time for which the connection as a whole could take nothing more, so far.
    pub(super) fn congested(&self, now: Instant) -> Duration {
        self.0.state.lock().congestion.total(now)
    }

    /// Adds a stream. It waits for the service until it is told otherwise.
    pub(super) fn stream(&self) -> StreamActivity {
        let mut state = self.0.state.lock();
        if !std::mem::replace(&mut state.asked, true) {
            self.0.changed.notify_one();
        }
        state.busy += 1;
        StreamActivity {
            activity: self.clone(),
            at: StreamTurn::Service,
        }
    }

    /// Returns when nothing has moved since `from` or later, for `unasked` where no request ever came, or for `idle`;
    /// or when the client is too slow.
    pub(super) async fn quiet(
        &self,
        from: Instant,
        unasked: Duration,
        idle: Duration,
    ) -> QuietReason {
        loop {
            let at = match self.look(from, unasked, idle) {
                Ok(at) => at,
                Err(quiet) => return quiet,
            };
            tokio::select! { () = sleep_until(at) => {}, () = self.0.changed.notified() => {} }
        }
    }

    /// Returns the time to look again, or why the connection is not worth keeping.
    fn look(
        &self,
        from: Instant,
        unasked: Duration,
        idle: Duration,
    ) -> Result<Instant, QuietReason> {
        let now = Instant::now();
        let (mut state, rule) = (self.0.state.lock(), &self.0.rule);
        let written = self.0.written.load(Relaxed);
        let patience = if state.asked { idle } else { unasked };
        if state.busy > 0 {
            state.moved = now;
        }
        let mut at = state.moved.max(from) + patience;
        if at <= now {
            // h2 may hold the last pieces of replies whose streams are gone.
            let enough = f64::from(rule.bytes_per_s_min) * patience.as_secs_f64();
            if ((written - state.moved_written) as f64) < enough.max(1.0) {
                return Err(QuietReason::Idle);
            }
            (state.moved, state.moved_written) = (now, written);
            at = now + patience;
        }
        match state.congestion.judge(rule, now, written) {
            Err(TooSlow) => return Err(QuietReason::Slow),
            Ok(Some(left)) => at = at.min(now + left),
            Ok(None) => {}
        }
        state.look_at = at;
        Ok(at)
    }
}

/// Side that has to move next on a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamTurn {
    Service,
    Client,
    Gone,
}

/// Activity of one stream.
pub(super) struct StreamActivity {
    activity: Activity,
    at: StreamTurn,
}

impl StreamActivity {
    /// Activity of the connection that the stream is on.
    pub(super) fn connection(&self) -> &Activity {
        &self.activity
    }

    /// Notes that something moved on the stream; `busy` where the service has to move next.
    pub(super) fn moved(&mut self, busy: bool) {
        if !busy {
            self.activity.0.pieces.fetch_add(1, Relaxed);
        }
        self.turn(if busy {
            StreamTurn::Service
        } else {
            StreamTurn::Client
        });
    }

    fn turn(&mut self, at: StreamTurn) {
        let shared = &self.activity.0;
        let mut state = shared.state.lock();
        let now = Instant::now();
        (state.moved, state.moved_written) = (now, shared.written.load(Relaxed));
        if self.at == at {
            return;
        }
        match self.at {
            StreamTurn::Service => state.busy -= 1,
            StreamTurn::Client => state.sending -= 1,
            StreamTurn::Gone => {}
        }
        match at {
            StreamTurn::Service => state.busy += 1,
            StreamTurn::Client => state.sending += 1,
            StreamTurn::Gone => {}
        }
        self.at = at;
        self.activity.congested_or_not(&mut state, now);
    }
}

impl Drop for StreamActivity {
    fn drop(&mut self) {
        self.turn(StreamTurn::Gone);
    }
}
