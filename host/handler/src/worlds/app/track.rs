//! State that the two sides of one request share: the instance that answers it, and whoever waits for the answer.

use crate::{HandlerError, limiter::LimitObserver, places::Place};
use parking_lot::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Between an instance's death and the word of its driver lie microseconds.
const CAUSE_WAIT_MAX: Duration = Duration::from_secs(1);

/// A request as both sides see it, until its response's body has ended.
#[derive(Debug, Default)]
pub(super) struct RequestTrack {
    hit: Mutex<Option<String>>,
    /// Why the instance died, if it did before the request was over.
    cause: Mutex<Option<HandlerError>>,
    died: Notify,
    client: Mutex<ClientTime>,
    left: Mutex<Left>,
}

/// Whether the client has left before there was a response.
#[derive(Debug, Default)]
struct Left {
    has_left: bool,
    /// The call's place in the allowance for what no client waits for, where it goes on.
    place: Option<Place>,
}

/// Time that the guest has waited for more of the request's body: it is the client's, and no deadline of the guest
/// counts it.
#[derive(Debug, Default)]
struct ClientTime {
    /// Time waited so far, without a wait in progress.
    total: Duration,
    /// When the wait in progress began.
    since: Option<Instant>,
}

impl LimitObserver for RequestTrack {
    fn report(&self, hit: &str) {
        *self.hit.lock() = Some(hit.to_owned());
    }
}

impl RequestTrack {
    /// The guest asked for more of the body, and it is not there.
    pub(super) fn awaits_client(&self) {
        self.client.lock().since.get_or_insert_with(Instant::now);
    }

    /// More of the body is there, or nobody asks for it any more.
    pub(super) fn client_came(&self) {
        let mut client = self.client.lock();
        if let Some(since) = client.since.take() {
            client.total += since.elapsed();
        }
    }

    /// Time that the guest has waited for the client, and whether it does so now.
    pub(super) fn client_time(&self) -> (Duration, bool) {
        let client = self.client.lock();
        let now = client.since.map(|since| since.elapsed());
        (client.total + now.unwrap_or_default(), now.is_some())
    }

    /// The client has left, and the call may go on with that place until it is over.
    pub(super) fn leave(&self, place: Option<Place>) {
        *self.left.lock() = Left {
            has_left: true,
            place,
        };
    }

    /// Whether the client of the request is gone.
    pub(super) fn has_left(&self) -> bool {
        self.left.lock().has_left
    }

    /// The call is over, or its instance: its place, if it had one, is given back.
    pub(super) fn release(&self) {
        let place = self.left.lock().place.take();
        drop(place);
    }

    pub(super) fn take_hit(&self) -> Option<String> {
        self.hit.lock().take()
    }

    /// Why the instance died.
    pub(super) fn cause(&self) -> Option<HandlerError> {
        self.cause.lock().clone()
    }

    /// Why the instance died, when it is known that it did: its driver says so within moments.
    pub(super) async fn cause_of_death(&self) -> HandlerError {
        if self.cause.lock().is_none() {
            // `notify_one` keeps its permit, so it does not matter who comes first.
            let _ = tokio::time::timeout(CAUSE_WAIT_MAX, self.died.notified()).await;
        }
        let unknown = || HandlerError::Trap("the instance died".into());
        self.cause().unwrap_or_else(unknown)
    }

    /// The first cause stays: what follows is a consequence.
    pub(super) fn end(&self, cause: HandlerError) {
        self.cause.lock().get_or_insert(cause);
        self.died.notify_one();
    }
}
