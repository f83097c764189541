//! Whether an HTTP/2 connection still does anything. Streams come and go in tasks of their own, and a client that
//! opens none, or takes too little of them all together, must not hold a connection for ever.

use super::congestion::{Congestion, TooSlow};
use parking_lot::Mutex;
use protoplex_net::Rule;
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

/// State that the streams of one connection share with its task.
#[derive(Clone)]
pub(super) struct Activity(Arc<ActivityInner>);

/// Why a connection is not worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quiet {
    /// Nothing moves.
    Idle,
    /// Replies are ready, and the client takes next to nothing of them all.
    Slow,
}

struct ActivityInner {
    state: Mutex<Progress>,
    /// Pace at which a client has to take replies.
    rule: Rule,
    /// Bytes of replies that the socket took.
    written: AtomicU64,
    /// Bytes that came.
    heard: Arc<AtomicU64>,
    /// Bytes of requests' bodies that came.
    received: AtomicU64,
    /// Heads and pieces of replies that were ready since somebody asked.
    pieces: AtomicU64,
    /// Another deadline counts: the first request is there, or the connection takes nothing more.
    changed: Notify,
}

struct Progress {
    /// Streams that wait for the service; the client is not to blame.
    busy: usize,
    /// Streams whose client has to take something.
    sending: usize,
    /// When something last moved, and what had been written by then.
    moved: Instant,
    moved_written: u64,
    /// There was a request.
    asked: bool,
    congestion: Congestion,
    /// When the connection's task looks next.
    look_at: Instant,
}

impl Activity {
    pub(super) fn new(rule: Rule) -> Self {
        let now = Instant::now();
        let state = Progress {
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

    /// Where the socket counts what comes.
    pub(super) fn heard(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.heard)
    }

    /// The socket took bytes of replies.
    pub(super) fn wrote(&self, bytes: u64) {
        self.0.written.fetch_add(bytes, Relaxed);
    }

    /// Bytes came: all, and of bodies.
    pub(super) fn came(&self, bytes: u64, of_bodies: u64) {
        self.0.heard.fetch_add(bytes, Relaxed);
        self.0.received.fetch_add(of_bodies, Relaxed);
    }

    /// Bytes of requests' bodies that came so far.
    pub(super) fn received(&self) -> u64 {
        self.0.received.load(Relaxed)
    }

    /// Heads and pieces of replies that were ready since it was asked last.
    pub(super) fn take_pieces(&self) -> u64 {
        match self.0.pieces.load(Relaxed) {
            0 => 0,
            _ => self.0.pieces.swap(0, Relaxed),
        }
    }

    /// Pace at which a client has to take replies.
    pub(super) fn rule(&self) -> &Rule {
        &self.0.rule
    }

    /// The socket takes nothing more, or does again.
    pub(super) fn socket_is_full(&self, is_full: bool) {
        self.congestion(|congestion| congestion.socket_is_full = is_full);
    }

    /// The client's window for the whole connection is used up, or open again.
    pub(super) fn window_is_shut(&self, is_shut: bool) {
        self.congestion(|congestion| congestion.window_is_shut = is_shut);
    }

    fn congestion(&self, change: impl FnOnce(&mut Congestion)) {
        let mut state = self.0.state.lock();
        change(&mut state.congestion);
        self.congested_or_not(&mut state, Instant::now());
    }

    fn congested_or_not(&self, state: &mut Progress, now: Instant) {
        let (shared, sending) = (&self.0, state.sending > 0);
        let written = || shared.written.load(Relaxed);
        if state.congestion.update(sending, now, written)
            && now + state.congestion.left(&shared.rule) < state.look_at
        {
            shared.changed.notify_one();
        }
    }

    /// For how long the connection as a whole could take nothing more, so far.
    pub(super) fn congested(&self, now: Instant) -> Duration {
        self.0.state.lock().congestion.total(now)
    }

    /// A stream; it waits for the service until it is told otherwise.
    pub(super) fn stream(&self) -> StreamActivity {
        let mut state = self.0.state.lock();
        if !std::mem::replace(&mut state.asked, true) {
            self.0.changed.notify_one();
        }
        state.busy += 1;
        StreamActivity {
            activity: self.clone(),
            at: At::Service,
        }
    }

    /// Returns when nothing has moved since `from` or later, for `unasked` where no request ever came, or for
    /// `idle`; or when the client is too slow.
    pub(super) async fn quiet(&self, from: Instant, unasked: Duration, idle: Duration) -> Quiet {
        loop {
            let at = match self.look(from, unasked, idle) {
                Ok(at) => at,
                Err(quiet) => return quiet,
            };
            tokio::select! { () = sleep_until(at) => {}, () = self.0.changed.notified() => {} }
        }
    }

    /// When to look again.
    fn look(&self, from: Instant, unasked: Duration, idle: Duration) -> Result<Instant, Quiet> {
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
                return Err(Quiet::Idle);
            }
            (state.moved, state.moved_written) = (now, written);
            at = now + patience;
        }
        match state.congestion.judge(rule, now, written) {
            Err(TooSlow) => return Err(Quiet::Slow),
            Ok(Some(left)) => at = at.min(now + left),
            Ok(None) => {}
        }
        state.look_at = at;
        Ok(at)
    }
}

/// The side whose turn it is on a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Service,
    Client,
    Gone,
}

/// One stream's say.
pub(super) struct StreamActivity {
    activity: Activity,
    at: At,
}

impl StreamActivity {
    /// The connection that it is one of.
    pub(super) fn connection(&self) -> &Activity {
        &self.activity
    }

    /// Something moved, or the service has to move next.
    pub(super) fn moved(&mut self, busy: bool) {
        if !busy {
            self.activity.0.pieces.fetch_add(1, Relaxed);
        }
        self.turn(if busy { At::Service } else { At::Client });
    }

    fn turn(&mut self, at: At) {
        let shared = &self.activity.0;
        let mut state = shared.state.lock();
        let now = Instant::now();
        (state.moved, state.moved_written) = (now, shared.written.load(Relaxed));
        if self.at == at {
            return;
        }
        match self.at {
            At::Service => state.busy -= 1,
            At::Client => state.sending -= 1,
            At::Gone => {}
        }
        match at {
            At::Service => state.busy += 1,
            At::Client => state.sending += 1,
            At::Gone => {}
        }
        self.at = at;
        self.activity.congested_or_not(&mut state, now);
    }
}

impl Drop for StreamActivity {
    fn drop(&mut self) {
        self.turn(At::Gone);
    }
}
