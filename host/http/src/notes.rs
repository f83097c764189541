//! What a service tells the access log of a request, beyond its reply.

use std::sync::{Arc, Mutex, PoisonError};

/// Access-log fields of a request in progress, where its node keeps a log. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct AccessNotes(Arc<Mutex<AccessFields>>);

/// Access-log fields that the service filled in. Empty where it said nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessFields {
    /// Handler that was asked.
    pub handler: String,
    /// Id of the build that answered.
    pub build: String,
    /// Name of the upstream that the request was relayed to.
    pub upstream: String,
}

impl AccessNotes {
    /// Changes the fields.
    pub fn write(&self, write: impl FnOnce(&mut AccessFields)) {
        write(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes the fields.
    pub fn take(&self) -> AccessFields {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
