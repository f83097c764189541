//! A body on its way out on a stream, as fast as the other side takes it.

use crate::received::ReceiveError;
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as HttpBody;
use protoplex_http::{BodyError, StreamError};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Why a body was not sent whole.
#[derive(Debug)]
pub enum PipeError<E> {
    /// The stream was reset, or its connection is gone.
    Peer,
    /// The body failed: the stream is reset for it.
    Body(E),
}

/// Why a stream is reset whose body failed, in the words of HTTP/2.
pub trait ResetReason {
    /// Reason code of the reset.
    fn reset_reason(&self) -> Reason;
}

impl ResetReason for BodyError {
    fn reset_reason(&self) -> Reason {
        match self {
            // A client that went away, or does not get on, cancels what it asked for.
            Self::Incomplete(_) | Self::TooSlow => Reason::CANCEL,
            Self::Malformed(_) => Reason::INTERNAL_ERROR,
        }
    }
}

impl ResetReason for StreamError {
    /// Passes the server's reason on, where it says the same to a client: `REFUSED_STREAM`, say, would not.
    fn reset_reason(&self) -> Reason {
        let said = match self.downcast_ref() {
            Some(ReceiveError::Stream(error)) if error.is_remote() && error.is_reset() => {
                error.reason()
            }
            _ => None,
        };
        said.filter(|reason| matches!(*reason, Reason::CANCEL | Reason::ENHANCE_YOUR_CALM))
            .unwrap_or(Reason::INTERNAL_ERROR)
    }
}

impl<E> From<h2::Error> for PipeError<E> {
    fn from(_: h2::Error) -> Self {
        Self::Peer
    }
}

/// A body and the stream that it goes out on.
pub struct Pipe<B: HttpBody> {
    body: B,
    stream: SendStream<Bytes>,
    /// Piece that waits for room, and whether it is the last.
    piece: Option<(Bytes, bool)>,
    /// Whether something was taken of the body, so that it cannot be sent again.
    begun: bool,
    /// Number of bytes that were handed over.
    handed: u64,
    /// Error that the body ended with; the stream is about to be reset for it.
    error: Option<B::Error>,
}

impl<B> Pipe<B>
where
    B: HttpBody<Data = Bytes, Error: ResetReason> + Unpin,
{
    /// Joins a body and a stream; nothing is handed over yet.
    pub fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self {
            body,
            stream,
            piece: None,
            begun: false,
            handed: 0,
            error: None,
        }
    }

    /// Sends as much as the other side takes. Ready when all of it is handed over.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PipeError<B::Error>>> {
        loop {
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(PipeError::Peer));
            }
            if let Some(error) = self.error.take() {
                self.stream.send_reset(error.reset_reason());
                return Poll::Ready(Err(PipeError::Body(error)));
            }
            if let Some((data, ends)) = &mut self.piece {
                // Handed over is no more than there is room for: what h2 buffers is not seen to be taken.
                let room = ready!(poll_room(&mut self.stream, data.len(), cx))?;
                let part = data.split_to(room.min(data.len()));
                let (is_last, is_whole) = (*ends && data.is_empty(), data.is_empty());
                self.handed += part.len() as u64;
                self.stream.send_data(part, is_last)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
                if !is_whole {
                    continue;
                }
                self.piece = None;
            }
            // Asked for only now: room that is held for a body that brings nothing is taken from other streams.
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
    /// Body that goes out.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// Body that goes out.
    pub fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// Whether a piece waits for room.
    pub fn waits_for_room(&self) -> bool {
        self.piece.is_some()
    }

    /// Resets the stream.
    pub fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// Number of bytes handed over so far.
    pub fn handed(&self) -> u64 {
        self.handed
    }

    /// Returns the body, if nothing of it was taken.
    pub fn untouched(self) -> Option<B> {
        (!self.begun).then_some(self.body)
    }
}

/// Ready when the other side takes at least a byte, with the number of `bytes` that it takes.
#[inline]
pub(crate) fn poll_room(
    stream: &mut SendStream<Bytes>,
    bytes: usize,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, h2::Error>> {
    stream.reserve_capacity(bytes);
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Err(Reason::CANCEL.into())),
        }
    }
    Poll::Ready(Ok(stream.capacity()))
}
