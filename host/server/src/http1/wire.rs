//! Bytes of a connection: read into one buffer, written out of another, and the pace at which the client takes them.

use super::half_closed::HalfClosed;
use crate::{HttpCause, context::ServerContext, limits::HeadLimits};
use bytes::{Buf, BufMut, Bytes};
use protoplex_http::{ReadBuffer, TextBuffer};
use protoplex_net::{Duplex, PaceMeter, Timer};
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{io::AsyncRead, time::Instant};
use tokio_util::sync::CancellationToken;

/// Largest write buffer that is kept.
const KEEP_BYTES_MAX: usize = 128 << 10;

/// Why a connection ends early; nothing is left to say to the client.
pub(super) enum EarlyEnd {
    Io,
}

impl From<io::Error> for EarlyEnd {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// One connection as bytes. `waiting` and `intake` read them, `output` and `relayed` write them.
pub(super) struct Wire<'a, S, IO> {
    pub(super) context: &'a ServerContext<S>,
    pub(super) io: IO,
    pub(super) input: ReadBuffer,
    pub(super) out: TextBuffer,
    /// Bytes of `out` that are written already.
    pub(super) written: usize,
    /// Bytes that go out after `out`, without a copy.
    pub(super) tail: Bytes,
    /// Number of bytes that the socket took.
    pub(super) sent: u64,
    /// Pace at which the client takes what is written.
    pub(super) pace: PaceMeter,
    /// Timer of the wait for the next request.
    pub(super) timer: Timer,
    /// Cancelled when the connection has to go.
    pub(super) leaving: &'a CancellationToken,
    /// Whether the request came from a node of ours, which judges its client's pace.
    pub(super) is_inner: bool,
    /// Limits of heads on this connection: nodes of the fleet pass on what one of them took, and what was added on the
    /// way.
    pub(super) head_limits: HeadLimits,
    /// Deadline of the first head, whose first bytes were read to tell the protocol.
    pub(super) head_deadline: Option<Instant>,
    /// Present when a client that waits for its reply has sent all that it will.
    half_closed: Option<Box<HalfClosed>>,
}

impl<'a, S, IO: Duplex> Wire<'a, S, IO> {
    /// Makes the wire of a connection; nothing was read or written yet.
    pub(super) fn new(
        context: &'a ServerContext<S>,
        io: IO,
        leaving: &'a CancellationToken,
        is_internal: bool,
    ) -> Self {
        Self {
            context,
            io,
            input: ReadBuffer::default(),
            out: TextBuffer::default(),
            written: 0,
            tail: Bytes::new(),
            sent: 0,
            pace: PaceMeter::default(),
            timer: Timer::default(),
            leaving,
            is_inner: false,
            head_limits: match is_internal {
                true => HeadLimits::INTERNAL,
                false => context.limits.head(),
            },
            head_deadline: None,
            half_closed: None,
        }
    }

    /// Number of bytes written so far, and of those that wait to be.
    pub(super) fn produced(&self) -> u64 {
        self.sent + (self.out.len() - self.written + self.tail.len()) as u64
    }

    /// Whether nothing more is to be read from the client.
    pub(super) fn is_half_closed(&self) -> bool {
        self.half_closed.is_some()
    }

    /// Notes that the client has sent all that it will.
    pub(super) fn half_close(&mut self) {
        self.half_closed = Some(Box::new(HalfClosed::new(&self.io)));
    }

    /// Fails when the client has reset a connection that it had half closed. The task is woken to look again.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Result<(), EarlyEnd> {
        let Some(half_closed) = &mut self.half_closed else {
            return Ok(());
        };
        match half_closed.poll_reset(&self.io, cx) {
            Poll::Ready(()) => Err(EarlyEnd::Io),
            Poll::Pending => Ok(()),
        }
    }

    /// Whether bytes wait for the client to take others, or were written in vain.
    #[inline]
    pub(super) fn is_owing(&self) -> bool {
        !self.out.is_empty() || self.io.socket().is_some_and(|socket| !socket.is_sent())
    }

    pub(super) async fn flush(&mut self) -> Result<(), EarlyEnd> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Waits until the kernel has all that was written. A client that takes nothing for too long is given up.
    pub(super) async fn settle(&mut self) -> Result<(), EarlyEnd> {
        poll_fn(|cx| {
            let sent = self.io.socket().map(|socket| socket.poll_sent(cx));
            match sent {
                None => Poll::Ready(Ok(())),
                Some(Poll::Ready(sent)) => Poll::Ready(sent.map_err(EarlyEnd::from)),
                Some(Poll::Pending) => self.poll_stalled(cx),
            }
        })
        .await
    }

    /// Writes the buffer and then the tail. A client that takes nothing for too long is given up.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EarlyEnd>> {
        while self.written < self.out.len() || !self.tail.is_empty() {
            let rest = &self.out[self.written..];
            let polled = if self.tail.is_empty() {
                // Most replies are one piece: the plain call is the cheaper one.
                Pin::new(&mut self.io).poll_write(cx, rest)
            } else {
                let slices = [IoSlice::new(rest), IoSlice::new(&self.tail)];
                Pin::new(&mut self.io).poll_write_vectored(cx, &slices)
            };
            let wrote = match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(EarlyEnd::Io)),
                Poll::Ready(wrote) => wrote?,
                Poll::Pending => return self.poll_stalled(cx),
            };
            self.pace.moved(wrote);
            self.sent += wrote as u64;
            let of_out = wrote.min(self.out.len() - self.written);
            self.written += of_out;
            self.tail.advance(wrote - of_out);
        }
        // TLS holds records back; `out` stays until they are gone, so that whoever looks at it flushes again.
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(flushed) => flushed?,
            Poll::Pending => return self.poll_stalled(cx),
        }
        self.pace.pause();
        self.written = 0;
        self.out.release();
        self.out.shrink_to(KEEP_BYTES_MAX);
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EarlyEnd>> {
        let limits = &self.context.limits;
        let rule = match self.is_inner {
            true => limits.inner_rule(),
            false => limits.write_rule(),
        };
        self.pace.poll_too_slow(&rule, cx).map(|()| {
            self.context.counters.count(HttpCause::SlowReader);
            Err(EarlyEnd::Io)
        })
    }
}

/// Bytes of one read of a head.
pub(super) const READ_BYTES: usize = 8 << 10;

/// Reads once, at most `bytes_max`; 0 is the end of the stream.
pub(super) async fn read_some(
    io: &mut (impl AsyncRead + Unpin),
    input: &mut ReadBuffer,
    bytes_max: usize,
) -> io::Result<usize> {
    poll_fn(|cx| poll_read(io, input, bytes_max, cx)).await
}

/// Polls for one read of at most `bytes_max`; 0 is the end of the stream. While nothing comes, an empty buffer is no
/// connection's.
pub(super) fn poll_read(
    io: &mut (impl AsyncRead + Unpin),
    input: &mut ReadBuffer,
    bytes_max: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    input.make_room(bytes_max);
    let mut room = (&mut **input).limit(bytes_max);
    let read = tokio_util::io::poll_read_buf(Pin::new(io), cx, &mut room);
    if read.is_pending() {
        input.pause();
    }
    read
}
