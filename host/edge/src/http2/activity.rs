//! Whether an HTTP/2 connection still does anything. Streams come and go in tasks of their own, and a client that
//! opens none, or takes nothing of those it has, must not hold a connection for ever.

use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// What the streams of one connection tell its task.
#[derive(Clone)]
pub(super) struct Activity(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// The first request is there: another deadline counts.
    asked: Notify,
}

struct State {
    /// Streams that wait for the service; the client is not to blame.
    busy: usize,
    /// When something last moved.
    moved: Instant,
    /// There was a request.
    asked: bool,
}

impl Activity {
    pub(super) fn new() -> Self {
        let state = State {
            busy: 0,
            moved: Instant::now(),
            asked: false,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            asked: Notify::new(),
        }))
    }

    /// A stream; it waits for the service until it is told otherwise.
    pub(super) fn stream(&self) -> Stream {
        let mut state = self.0.state.lock();
        if !std::mem::replace(&mut state.asked, true) {
            self.0.asked.notify_one();
        }
        state.busy += 1;
        Stream {
            activity: self.clone(),
            busy: true,
        }
    }

    /// Returns when nothing has moved since `from` or later: for `unasked` where no request ever came, or for `idle`.
    pub(super) async fn quiet(&self, from: Instant, unasked: Duration, idle: Duration) {
        loop {
            let now = Instant::now();
            let at = {
                let state = self.0.state.lock();
                let since = if state.busy > 0 { now } else { state.moved };
                since.max(from) + if state.asked { idle } else { unasked }
            };
            if at <= now {
                return;
            }
            tokio::select! { () = sleep_until(at) => {}, () = self.0.asked.notified() => {} }
        }
    }
}

/// One stream's say.
pub(super) struct Stream {
    activity: Activity,
    busy: bool,
}

impl Stream {
    /// Another that belongs to the same request, and waits for nobody.
    pub(super) fn beside(&self) -> Self {
        Self {
            activity: self.activity.clone(),
            busy: false,
        }
    }

    /// Something moved, or the service has to move next.
    pub(super) fn moved(&mut self, busy: bool) {
        let mut state = self.activity.0.state.lock();
        state.moved = Instant::now();
        match (self.busy, busy) {
            (false, true) => state.busy += 1,
            (true, false) => state.busy -= 1,
            _ => {}
        }
        self.busy = busy;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.moved(false);
    }
}
