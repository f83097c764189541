//! The body of a response that came by HTTP/2, or what a stream is instead.

use super::Sending;
use crate::{
    http2::{Duplex, Received},
    server::Held,
    upstream::{ending::Ending, servers::Lease},
};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use protoplex_http::{BodyError, RelayBody, StreamError};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::Sleep;

/// Frames as they come, trailers too, with a deadline on each wait in which nothing moves in either direction. Dropping
/// it resets the stream.
pub(crate) struct Http2Body {
    received: Received,
    /// What is left of the request.
    sending: Sending,
    /// Why that did not come, before it was told.
    unsent: Option<BodyError>,
    ending: Ending,
    /// Made at the first wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer is set for the wait that goes on.
    waits: bool,
    /// The connection and the server count this request until it is over.
    _stream: Held,
    _lease: Lease,
}

impl Http2Body {
    pub(in crate::upstream) fn new(
        received: Received,
        sending: Sending,
        ending: Ending,
        stream: Held,
        lease: Lease,
    ) -> Self {
        Self {
            received,
            sending,
            unsent: None,
            ending,
            timer: None,
            waits: false,
            _stream: stream,
            _lease: lease,
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waits {
            let at = self.ending.idle_at();
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
        // What is whole is not cut any more.
        let is_whole = body.received.is_end_stream();
        if !is_whole && let Poll::Ready(error) = body.ending.poll_over(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        body.poll_request(cx);
        if let Some(error) = body.unsent.take() {
            return Poll::Ready(Some(Err(format!("the request's body: {error}").into())));
        }
        if let Poll::Ready(frame) = Pin::new(&mut body.received).poll_frame(cx) {
            body.waits = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        body.poll_late(cx)
            .map(|()| Some(Err("the server's body stopped".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.received.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.received.size_hint()
    }
}

impl RelayBody for Http2Body {
    fn is_tunnel(&self) -> bool {
        false
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) {
        if self.unsent.is_some() {
            return;
        }
        let handed = self.sending.handed();
        self.unsent = self.sending.poll(cx).err();
        // A server that takes what the client says is no silent one.
        self.waits &= handed == self.sending.handed();
    }

    fn end_with(&mut self, cut: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.ending.cut_by(cut);
    }
}

/// No body at all, but a stream that was switched to another protocol.
pub(crate) struct Switched {
    pub(in crate::upstream) io: Duplex,
    /// The connection counts the stream until it is over.
    pub(in crate::upstream) stream: Held,
}

impl HttpBody for Switched {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        Poll::Ready(None)
    }
}

impl RelayBody for Switched {
    fn is_tunnel(&self) -> bool {
        true
    }

    fn end_with(&mut self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}
}
