//! The body of a response that came by HTTP/2.

use crate::{server::Held, upstream::servers::Lease};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use protoplex_http::{RelayBody, StreamError};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// Frames as they come, trailers too, with a deadline on each wait. Dropping it resets the stream.
pub(crate) struct Http2Body {
    incoming: Incoming,
    idle: Duration,
    total_at: Option<Instant>,
    /// Made at the first wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer is set for the wait that goes on.
    waits: bool,
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The connection and the server count this request until it is over.
    _stream: Held,
    _lease: Lease,
}

impl Http2Body {
    pub(in crate::upstream) fn new(
        incoming: Incoming,
        idle: Duration,
        total_at: Option<Instant>,
        stream: Held,
        lease: Lease,
    ) -> Self {
        Self {
            incoming,
            idle,
            total_at,
            timer: None,
            waits: false,
            cut: None,
            _stream: stream,
            _lease: lease,
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waits {
            let idle_at = Instant::now() + self.idle;
            let at = self.total_at.map_or(idle_at, |total| total.min(idle_at));
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(at),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(at))),
            }
            self.waits = true;
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl HttpBody for Http2Body {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let body = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut body.incoming).poll_frame(cx) {
            body.waits = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if body.poll_late(cx).is_ready() {
            return Poll::Ready(Some(Err("the server's body stopped".into())));
        }
        match &mut body.cut {
            Some(cut) => cut
                .as_mut()
                .poll(cx)
                .map(|()| Some(Err("the build's drain deadline passed".into()))),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl RelayBody for Http2Body {
    fn is_tunnel(&self) -> bool {
        false
    }

    fn end_with(&mut self, cut: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.cut = Some(cut);
    }
}
