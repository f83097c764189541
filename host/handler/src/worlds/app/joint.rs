//! State that an instance's driver shares with the requests that are in it: who came, who waits for an answer, whose
//! body is still under way, and whether there is room for more.

use super::track::RequestTrack;
use crate::{HandlerError, places::Place};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, oneshot};
use wasmtime_wasi_http::WasiBody;

/// A request on its way into an instance.
pub(super) struct Incoming {
    pub(super) request: http::Request<WasiBody>,
    pub(super) track: Arc<RequestTrack>,
    pub(super) answer: oneshot::Sender<Result<http::Response<OpenBody>, HandlerError>>,
}

/// The body of a response: one of the instance's open ones, until it is dropped.
pub(super) struct OpenBody {
    pub(super) content: WasiBody,
    track: Arc<RequestTrack>,
    joint: Arc<Joint>,
}

impl OpenBody {
    pub(super) fn new(content: WasiBody, track: Arc<RequestTrack>, joint: Arc<Joint>) -> Self {
        joint.body_begins();
        Self {
            content,
            track,
            joint,
        }
    }

    /// Why the instance died, if it did.
    pub(super) fn cause(&self) -> Option<HandlerError> {
        self.track.cause()
    }
}

impl Drop for OpenBody {
    fn drop(&mut self) {
        // What the guest still writes has no reader.
        self.content = WasiBody::default();
        self.joint.body_ends(&self.track);
    }
}

/// The next step of a driver.
pub(super) enum Step {
    /// Runs one more request.
    Take(Box<Incoming>),
    /// Waits.
    Wait,
    /// Is done: no request is in the instance, and none can come any more.
    End,
}

/// One instance's requests, as its driver and those who wait for it share them.
pub(super) struct Joint {
    concurrency: u32,
    requests_max: u64,
    state: Mutex<JointState>,
    deserted: Notify,
}

struct JointState {
    joining: VecDeque<Box<Incoming>>,
    tracks: Vec<Arc<RequestTrack>>,
    /// Requests whose response has no head yet.
    headless: u32,
    /// Bodies of responses that have not ended.
    bodies: u32,
    /// Some request of this run is over: its guest may still work for it.
    works_on: bool,
    /// Requests in all, those before this run included.
    served: u64,
    /// The driver runs in a task of its own, where others may join.
    apart: bool,
    /// The guest has been seen waiting since the last request came in: it is not busy with that.
    waits: bool,
    /// There is room.
    open: bool,
    driver: Option<Waker>,
    /// When the last request came, or the last one in progress ended.
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
        let state = JointState {
            joining: VecDeque::new(),
            tracks: vec![Arc::clone(first)],
            headless: 1,
            bodies: 0,
            works_on: false,
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
            deserted: Notify::new(),
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
        while let Some(incoming) = state.joining.pop_front() {
            if !incoming.track.has_left() {
                return Step::Take(incoming);
            }
            state.forget(&incoming.track);
            state.headless -= 1;
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

    /// Marks the driver as a task of its own, which has to be woken.
    pub(super) fn go_apart(&self) {
        self.state.lock().apart = true;
    }

    /// A response has a head, and its body begins.
    fn body_begins(&self) {
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
        state.works_on = true;
        state.since = Instant::now();
        state.wake();
    }

    /// A body has ended, whole or not.
    fn body_ends(&self, track: &Arc<RequestTrack>) {
        let mut state = self.state.lock();
        state.forget(track);
        state.bodies -= 1;
        state.works_on = true;
        state.since = Instant::now();
        state.wake();
    }

    /// Whether some request has no head yet.
    pub(super) fn awaits_head(&self) -> bool {
        self.state.lock().headless > 0
    }

    /// A client has left before there was a response. Its call, which nobody can take out of the instance, goes on with
    /// that place as long as others use the instance. Without a place nobody may join any more. When all clients have
    /// left, the instance is deserted, unless it may still work for a request that is over.
    pub(super) fn leave(&self, track: &RequestTrack, place: Option<Place>) {
        let mut state = self.state.lock();
        if !state.has(track) {
            return;
        }
        let has_place = place.is_some();
        track.leave(place);
        if !has_place {
            state.close();
        }
        if state.waiting() == 0 && state.bodies == 0 && !(state.works_on && has_place) {
            state.close();
            self.deserted.notify_one();
        }
    }

    /// Waits until it is deserted.
    pub(super) async fn deserted(&self) {
        self.deserted.notified().await;
    }

    /// Requests so far.
    pub(super) fn served(&self) -> u64 {
        self.state.lock().served
    }

    /// Whether the instance has had its time: for an answer, or for what a guest does after its responses.
    pub(super) fn is_overdue(&self, answer_max: Duration, after_max: Duration) -> bool {
        let state = self.state.lock();
        let max = match (state.waiting(), state.bodies) {
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
            track.release();
            track.end(cause(&track));
        }
    }
}

impl JointState {
    fn has(&self, request: &RequestTrack) -> bool {
        self.tracks
            .iter()
            .any(|track| std::ptr::eq(&**track, request))
    }

    fn forget(&mut self, over: &Arc<RequestTrack>) {
        over.release();
        self.tracks.retain(|track| !Arc::ptr_eq(track, over));
    }

    /// Requests without a head whose clients are there.
    fn waiting(&self) -> u32 {
        let left = self.tracks.iter().filter(|track| track.has_left()).count();
        self.headless
            .saturating_sub(u32::try_from(left).unwrap_or(u32::MAX))
    }

    fn close(&mut self) {
        self.served = u64::MAX;
        self.open = false;
    }

    fn wake(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

#[cfg(test)]
mod tests;
