//! Whether an HTTP/2 connection still does anything. Streams come and go in tasks of their own, and a client that
//! opens none, or takes too little of those it has, must not hold a connection for ever.

use crate::pace::Rule;
use parking_lot::Mutex;
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

/// What the streams of one connection tell its task.
#[derive(Clone)]
pub(super) struct Activity(Arc<Shared>);

/// Why a connection is not worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quiet {
    /// Nothing moves.
    Idle,
    /// Replies are ready, and the client takes next to nothing of them.
    Slow,
}

struct Shared {
    state: Mutex<State>,
    /// How fast a client has to take replies.
    rule: Rule,
    /// Bytes that the socket took.
    written: Arc<AtomicU64>,
    /// Bytes that came.
    heard: Arc<AtomicU64>,
    /// Another deadline counts: the first request is there, or the first reply that the client has to take.
    changed: Notify,
}

struct State {
    /// Streams that wait for the service; the client is not to blame.
    busy: usize,
    /// Streams whose client has to take something.
    sending: usize,
    /// When something last moved, and what had been written by then.
    moved: Instant,
    moved_written: u64,
    /// There was a request.
    asked: bool,
    taking: Taking,
}

/// Time in which the client had something to take, over a window.
#[derive(Default)]
struct Taking {
    /// Without what goes on.
    waited: Duration,
    since: Option<Instant>,
    /// What had been written when the window began.
    written: u64,
}

impl Activity {
    pub(super) fn new(rule: Rule) -> Self {
        let state = State {
            busy: 0,
            sending: 0,
            moved: Instant::now(),
            moved_written: 0,
            asked: false,
            taking: Taking::default(),
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            rule,
            written: Arc::default(),
            heard: Arc::default(),
            changed: Notify::new(),
        }))
    }

    /// Where the socket counts what it takes.
    pub(super) fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.written)
    }

    /// Where it counts what comes.
    pub(super) fn heard(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.heard)
    }

    /// A stream; it waits for the service until it is told otherwise.
    pub(super) fn stream(&self) -> Stream {
        let mut state = self.0.state.lock();
        if !std::mem::replace(&mut state.asked, true) {
            self.0.changed.notify_one();
        }
        state.busy += 1;
        Stream {
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
        let mut idle_at = state.moved.max(from) + patience;
        if idle_at <= now {
            // h2 may hold the last pieces of replies whose streams are gone.
            let enough = f64::from(rule.bytes_per_s_min) * patience.as_secs_f64();
            if ((written - state.moved_written) as f64) < enough.max(1.0) {
                return Err(Quiet::Idle);
            }
            (state.moved, state.moved_written) = (now, written);
            idle_at = now + patience;
        }
        let taking = &mut state.taking;
        let Some(since) = taking.since else {
            return Ok(idle_at);
        };
        if taking.waited + (now - since) >= rule.window {
            if !rule.is_met(written - taking.written) {
                return Err(Quiet::Slow);
            }
            *taking = Taking {
                waited: Duration::ZERO,
                since: Some(now),
                written,
            };
        }
        let since = taking.since.unwrap_or(now);
        Ok(idle_at.min(since + (rule.window - taking.waited)))
    }
}

/// Whose turn it is on a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Service,
    Client,
    Gone,
}

/// One stream's say.
pub(super) struct Stream {
    activity: Activity,
    at: At,
}

impl Stream {
    /// Something moved, or the service has to move next.
    pub(super) fn moved(&mut self, busy: bool) {
        self.turn(if busy { At::Service } else { At::Client });
    }

    fn turn(&mut self, at: At) {
        let shared = &self.activity.0;
        let mut state = shared.state.lock();
        let now = Instant::now();
        let written = shared.written.load(Relaxed);
        (state.moved, state.moved_written) = (now, written);
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
        let is_sending = state.sending > 0;
        let taking = &mut state.taking;
        match taking.since {
            None if is_sending => {
                if taking.waited.is_zero() {
                    taking.written = written;
                    shared.changed.notify_one();
                }
                taking.since = Some(now);
            }
            Some(since) if !is_sending => {
                taking.waited += now - since;
                taking.since = None;
            }
            _ => {}
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.turn(At::Gone);
    }
}
