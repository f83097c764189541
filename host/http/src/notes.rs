//! Notes of a service on a request, beyond its reply, for the access log.

use std::sync::{Arc, Mutex, PoisonError};

/// A slip of paper that goes with a request whose node keeps an access log. Clones write on the same one.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Noted>>);

/// The notes on one request. Empty where nothing was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// The handler that was asked.
    pub handler: String,
    /// Id of the build that answered.
    pub build: String,
    /// Where the request was relayed to.
    pub upstream: String,
}

impl Notes {
    /// Writes on it.
    pub fn write(&self, write: impl FnOnce(&mut Noted)) {
        write(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes what was written.
    pub fn take(&self) -> Noted {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
