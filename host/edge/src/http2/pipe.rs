//! A body on its way out on a stream, as fast as the other side takes it.

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as HttpBody;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Why a body did not get out whole.
#[derive(Debug)]
pub(crate) enum Unsent<E> {
    /// The stream was reset, or its connection is gone.
    Peer,
    /// The body itself: the stream is reset for it.
    Body(E),
}

impl<E> From<h2::Error> for Unsent<E> {
    fn from(_: h2::Error) -> Self {
        Self::Peer
    }
}

pub(crate) struct Pipe<B: HttpBody> {
    body: B,
    stream: SendStream<Bytes>,
    /// Waits for room; with whether it is the last.
    piece: Option<(Bytes, bool)>,
    /// Something was taken of the body, so that it cannot be sent again.
    begun: bool,
    /// What the body ended with; the stream is about to be reset for it.
    error: Option<B::Error>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> Pipe<B> {
    pub(crate) fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self {
            body,
            stream,
            piece: None,
            begun: false,
            error: None,
        }
    }

    /// Gets on as far as it can. Ready when all of it is handed over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent<B::Error>>> {
        loop {
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Unsent::Peer));
            }
            if let Some(error) = self.error.take() {
                self.stream.send_reset(Reason::INTERNAL_ERROR);
                return Poll::Ready(Err(Unsent::Body(error)));
            }
            if let Some((_, ends)) = self.piece {
                ready!(poll_room(&mut self.stream, cx))?;
                let (data, _) = self.piece.take().unwrap_or_default();
                self.stream.send_data(data, ends)?;
                if ends {
                    return Poll::Ready(Ok(()));
                }
            }
            // Only now: room that is held for a body that brings nothing is taken from other streams.
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                self.stream.send_data(Bytes::new(), true)?;
                return Poll::Ready(Ok(()));
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    // A reset throws away what h2 has not written yet: the connection's task, which was woken by the
                    // piece before this, comes first.
                    self.error = Some(error);
                    self.begun = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            };
            self.begun = true;
            match frame.into_data() {
                // An empty frame tells nothing; that nothing follows is told by the end.
                Ok(data) if data.is_empty() => {}
                Ok(data) => self.piece = Some((data, self.body.is_end_stream())),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.send_trailers(trailers)?;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<B: HttpBody> Pipe<B> {
    /// The body, if nothing of it was taken.
    pub(crate) fn untouched(self) -> Option<B> {
        (!self.begun).then_some(self.body)
    }
}

/// Ready when the other side takes at least a byte. A piece that is larger waits in h2's buffer, which is no larger
/// than that for it: the next piece has to wait for room of its own.
pub(super) fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), h2::Error>> {
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Err(Reason::CANCEL.into())),
        }
    }
    Poll::Ready(Ok(()))
}
