//! Interim responses (RFC 9110, section 15.2) on their way from an upstream to the client.

use crate::HeaderLines;
use http::StatusCode;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Most interim responses that may wait; more of them are thrown away.
const INTERIMS_MAX: usize = 8;

/// One interim response.
#[derive(Clone, Debug)]
pub struct Interim {
    /// Status: 103, mostly.
    pub status: StatusCode,
    /// Header lines of the interim response.
    pub lines: HeaderLines,
}

/// Where a service puts interim responses; the connection writes them before the reply. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Interims(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    interims: Mutex<Vec<Interim>>,
    /// Whether there are any: connections ask at each poll, and there hardly ever are.
    any: AtomicBool,
}

impl Interims {
    /// Hands an interim response to the connection, which looks when it polls the service's future.
    pub fn push(&self, interim: Interim) {
        let mut waiting = self
            .0
            .interims
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < INTERIMS_MAX {
            waiting.push(interim);
            self.0.any.store(true, Ordering::Release);
        }
    }

    /// Takes the interim responses that wait.
    #[inline]
    pub fn take(&self) -> Vec<Interim> {
        if !self.0.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut waiting = self
            .0
            .interims
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.0.any.store(false, Ordering::Release);
        std::mem::take(&mut *waiting)
    }
}
