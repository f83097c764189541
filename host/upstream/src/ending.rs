//! When a response's body is given up: for silence, at the end of all time it has, or because its build has to end.

use protoplex_http::StreamError;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// The limits of one body.
pub(super) struct Ending {
    /// Between two reads.
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

    /// The end of all time that it has.
    pub(super) fn total_at(&self) -> Option<Instant> {
        self.total_at
    }

    /// When a body that brings nothing from now on is given up.
    pub(super) fn idle_at(&self) -> Instant {
        let idle_at = Instant::now() + self.idle;
        self.total_at.map_or(idle_at, |total| total.min(idle_at))
    }

    /// Ends the body when the future is done, too.
    pub(super) fn cut_by(&mut self, cut: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.cut = Some(cut);
    }

    /// Whether all its time is over, or its build's. To be asked before each frame: a server that always has something to
    /// read, for a client that is slower, is never waited for.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        if self.total_at.is_some_and(|at| at <= Instant::now()) {
            return Poll::Ready("the time for all of it is over".into());
        }
        self.poll_cut(cx)
    }

    /// Whether the build that this was decided by has to end.
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
