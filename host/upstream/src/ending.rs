//! When a response's body is given up: after a silence, at the total timeout, or because its build has to end.

use protoplex_http::StreamError;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// Limits on the time of one response's body.
pub(super) struct Ending {
    /// Longest silence between two reads.
    idle: Duration,
    total_at: Option<Instant>,
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Ending {
    pub(super) fn new(idle: Duration, total_at: Option<Instant>) -> Self {
        Self {
            idle,
            total_at,
            cut: None,
        }
    }

    /// Deadline of the request's total timeout, if it has one.
    pub(super) fn total_at(&self) -> Option<Instant> {
        self.total_at
    }

    /// Deadline of a silence that begins now.
    pub(super) fn idle_at(&self) -> Instant {
        let idle_at = Instant::now() + self.idle;
        self.total_at.map_or(idle_at, |total| total.min(idle_at))
    }

    /// Makes the body end with an error once `cut` is done.
    pub(super) fn cut_by(&mut self, cut: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.cut = Some(cut);
    }

    /// Ready when the total timeout is over or the build has to end. Ask before each frame: a server that always has
    /// something to read, for a client that is slower, is never waited for.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        if self.total_at.is_some_and(|at| at <= Instant::now()) {
            return Poll::Ready("the time for all of it is over".into());
        }
        self.poll_cut(cx)
    }

    /// Ready when the build that decided the request has to end.
    pub(super) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match &mut self.cut {
            Some(cut) => cut
                .as_mut()
                .poll(cx)
                .map(|()| "the build's drain deadline passed".into()),
            None => Poll::Pending,
        }
    }
}
