//! Body of a response by HTTP/2, as the connection to the client takes it.

use super::StreamSender;
use crate::{deadlines::AwaitedSide, ending::Ending, servers::Lease};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use protoplex_http::{BodyError, RelayBody, StreamError};
use protoplex_http2::ReceivedBody;
use protoplex_net::{OwnedGaugeGuard, Timer};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::Instant;

/// Frames and trailers as they come, with a deadline on each wait in which nothing moves in either direction. Dropping
/// the body resets the stream.
pub(crate) struct Http2Body {
    received: ReceivedBody,
    /// Part of the request that is still to be sent.
    sending: StreamSender,
    /// Side that had to move after the request was last sent on.
    awaited: AwaitedSide,
    /// Error of the client's body, until it is reported.
    unsent: Option<BodyError>,
    ending: Ending,
    timer: Timer,
    /// Deadline of the wait that goes on.
    idle_at: Option<Instant>,
    /// Permit of the stream on its connection, until the body is over.
    _stream: OwnedGaugeGuard,
    _lease: Lease,
}

impl Http2Body {
    pub(crate) fn new(
        received: ReceivedBody,
        sending: StreamSender,
        ending: Ending,
        stream: OwnedGaugeGuard,
        lease: Lease,
    ) -> Self {
        Self {
            received,
            sending,
            awaited: AwaitedSide::Response,
            unsent: None,
            ending,
            timer: Timer::default(),
            idle_at: None,
            _stream: stream,
            _lease: lease,
        }
    }

    /// Ready when the wait for more is too long. While the client owes more of its body, the server owes nothing. In a
    /// conversation, the silence of both is measured.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = if self.awaited == AwaitedSide::Client && self.sending.is_owed() {
            self.idle_at = None;
            self.ending.total_at()
        } else {
            let ending = &self.ending;
            Some(*self.idle_at.get_or_insert_with(|| ending.idle_at()))
        };
        at.map_or(Poll::Pending, |at| self.timer.poll_until(at, cx))
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
        // A body that is whole is not ended early.
        let is_whole = body.received.is_end_stream();
        if !is_whole && let Poll::Ready(error) = body.ending.poll_over(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        body.poll_request(cx);
        if let Some(error) = body.unsent.take() {
            return Poll::Ready(Some(Err(format!("the request's body: {error}").into())));
        }
        if let Poll::Ready(frame) = Pin::new(&mut body.received).poll_frame(cx) {
            body.idle_at = None;
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
    fn poll_request(&mut self, cx: &mut Context<'_>) {
        if self.unsent.is_some() {
            return;
        }
        let taken = self.sending.taken();
        match self.sending.poll(cx) {
            Ok(awaited) => self.awaited = awaited,
            Err(error) => self.unsent = Some(error),
        }
        // A server that takes what the client sends is not silent.
        if taken != self.sending.taken() {
            self.idle_at = None;
        }
    }

    fn end_with(&mut self, cut: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.ending.cut_by(cut);
    }
}
