//! What the two sides of one request share: the instance that answers it, and whoever waits for the answer.

use crate::HandlerError;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::sync::Notify;

/// Between an instance's death and the word of its driver lie microseconds.
const CAUSE_WAIT_MAX: Duration = Duration::from_secs(1);

/// It lives until the response's body has ended.
#[derive(Debug, Default)]
pub(crate) struct RequestTrack {
    hit: Mutex<Option<String>>,
    /// Why the instance died, if it did before the request was over.
    cause: Mutex<Option<HandlerError>>,
    died: Notify,
}

impl RequestTrack {
    /// Notes a limit that the guest ran into.
    pub(crate) fn report(&self, hit: &str) {
        *self.hit.lock() = Some(hit.to_owned());
    }

    pub(super) fn take_hit(&self) -> Option<String> {
        self.hit.lock().take()
    }

    /// Why the instance died.
    pub(super) fn cause(&self) -> Option<HandlerError> {
        self.cause.lock().clone()
    }

    /// The same, when it is known that it died: its driver says so within moments.
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
