//! Interim answers (RFC 9110, section 15.2) on their way from an upstream to the client.

use crate::Lines;
use http::StatusCode;
use std::sync::{Arc, Mutex, PoisonError};

/// Most interim responses that may wait; an upstream that sends more is not listened to.
const INTERIMS_MAX: usize = 8;

/// One interim answer.
#[derive(Clone, Debug)]
pub struct Interim {
    /// 103, mostly.
    pub status: StatusCode,
    /// Header lines of the interim response.
    pub lines: Lines,
}

/// Where a service puts interim answers; the connection writes them before the reply. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Interims(Arc<Mutex<Vec<Interim>>>);

impl Interims {
    /// Hands one to the connection, which looks when it polls the service's future.
    pub fn push(&self, interim: Interim) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < INTERIMS_MAX {
            waiting.push(interim);
        }
    }

    /// Takes the interim responses that wait.
    pub fn take(&self) -> Vec<Interim> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
