//! What an instance's driver shares with the requests that are in it: who came, who waits for an answer, whose body
//! is still under way, and whether there is room for more.

use super::{answer::Answer, track::RequestTrack};
use crate::HandlerError;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

/// A request on its way into an instance.
pub(super) struct Incoming {
    pub(super) request: http::Request<WasiBody>,
    pub(super) track: Arc<RequestTrack>,
    pub(super) answer: oneshot::Sender<Result<http::Response<Answer>, HandlerError>>,
}

/// What a driver does next.
pub(super) enum Step {
    /// Runs one more request.
    Take(Box<Incoming>),
    /// Waits.
    Wait,
    /// Is done: no request is in the instance, and none can come any more.
    End,
}

/// See the module.
pub(super) struct Joint {
    concurrency: u32,
    requests_max: u64,
    state: Mutex<State>,
}

struct State {
    joining: VecDeque<Box<Incoming>>,
    tracks: Vec<Arc<RequestTrack>>,
    /// Requests whose response has no head yet.
    headless: u32,
    /// Bodies of responses that have not ended.
    bodies: u32,
    /// Requests in all, those before this run included.
    served: u64,
    /// It runs in a task of its own, where others may join.
    apart: bool,
    /// The guest has been seen waiting since the last request came in: it is not busy with that.
    waits: bool,
    /// There is room.
    open: bool,
    driver: Option<Waker>,
    /// When the last request came, or the last of them was over.
    since: Instant,
}

impl Joint {
    /// `served` counts requests of before; the one that it begins with is counted here.
    pub(super) fn new(
        concurrency: u32,
        requests_max: u64,
        served: u64,
        first: &Arc<RequestTrack>,
    ) -> Self {
        let state = State {
            joining: VecDeque::new(),
            tracks: vec![Arc::clone(first)],
            headless: 1,
            bodies: 0,
            served: served + 1,
            apart: false,
            waits: false,
            open: false,
            driver: None,
            since: Instant::now(),
        };
        Self {
            concurrency,
            requests_max,
            state: Mutex::new(state),
        }
    }

    /// Hands the request over, if there is room; the driver is woken.
    pub(super) fn join(&self, incoming: Box<Incoming>) -> Result<(), Box<Incoming>> {
        let mut state = self.state.lock();
        if !state.open {
            return Err(incoming);
        }
        (state.open, state.waits) = (false, false);
        state.served += 1;
        state.headless += 1;
        state.since = Instant::now();
        state.tracks.push(Arc::clone(&incoming.track));
        state.joining.push_back(incoming);
        state.wake();
        Ok(())
    }

    /// The driver asks what to do; `quiet` says that the guest has nothing left to do and no call runs.
    pub(super) fn next(&self, cx: &Context<'_>, quiet: bool, may_join: bool) -> Step {
        let mut state = self.state.lock();
        if let Some(incoming) = state.joining.pop_front() {
            return Step::Take(incoming);
        }
        if quiet && state.bodies == 0 {
            state.open = false;
            return Step::End;
        }
        state.driver = state.apart.then(|| cx.waker().clone());
        state.open = state.apart
            && state.waits
            && may_join
            && state.headless + state.bodies < self.concurrency
            && state.served < self.requests_max;
        Step::Wait
    }

    /// The guest was polled and waits. Whether to ask it once more, now that others may join.
    pub(super) fn note_wait(&self) -> bool {
        if self.concurrency == 1 {
            return false;
        }
        let mut state = self.state.lock();
        let first = state.apart && !state.waits;
        state.waits |= first;
        first
    }

    /// From here on the driver is a task of its own, and has to be woken.
    pub(super) fn go_apart(&self) {
        self.state.lock().apart = true;
    }

    /// A response has a head, and its body begins.
    pub(super) fn body_begins(&self) {
        let mut state = self.state.lock();
        state.headless -= 1;
        state.bodies += 1;
        state.since = Instant::now();
    }

    /// A request was answered without a response.
    pub(super) fn failed(&self, track: &Arc<RequestTrack>) {
        let mut state = self.state.lock();
        state.forget(track);
        state.headless -= 1;
        state.since = Instant::now();
        state.wake();
    }

    /// A body has ended, whole or not.
    pub(super) fn body_ends(&self, track: &Arc<RequestTrack>) {
        let mut state = self.state.lock();
        state.forget(track);
        state.bodies -= 1;
        state.since = Instant::now();
        state.wake();
    }

    /// Nobody may join any more: a request in it ran out of time.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.served = u64::MAX;
        state.open = false;
    }

    /// Requests so far.
    pub(super) fn served(&self) -> u64 {
        self.state.lock().served
    }

    /// Whether the instance has had its time: for an answer, or for what a guest does after its responses.
    pub(super) fn is_overdue(&self, answer_max: Duration, after_max: Duration) -> bool {
        let state = self.state.lock();
        let max = match (state.headless, state.bodies) {
            (0, 0) => after_max,
            (0, _) => return false,
            _ => answer_max,
        };
        let client_times = state.tracks.iter().map(|track| track.client_time().0);
        state.since.elapsed() > max + client_times.max().unwrap_or_default()
    }

    /// Tells every request in it why the instance died.
    pub(super) fn died(&self, cause: impl Fn(&RequestTrack) -> HandlerError) {
        let tracks = {
            let mut state = self.state.lock();
            state.open = false;
            state.joining.clear();
            std::mem::take(&mut state.tracks)
        };
        for track in tracks {
            track.end(cause(&track));
        }
    }
}

impl State {
    fn forget(&mut self, over: &Arc<RequestTrack>) {
        self.tracks.retain(|track| !Arc::ptr_eq(track, over));
    }

    fn wake(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

#[cfg(test)]
mod tests;
