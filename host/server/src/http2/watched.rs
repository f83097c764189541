//! Socket under h2: counts what passes, and cuts a client, with `ENHANCE_YOUR_CALM`, that does too much of what costs
//! only us.

use super::{
    activity::Activity,
    budget::FrameBudget,
    frames::{self, Scanner},
    heads::UnreadHeads,
};
use crate::{Http2Limits, HttpCause, context::ServerContext};
use h2::Reason;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Length of the preface, `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`.
const PREFACE_BYTES: usize = 24;
/// Bytes that may be sent on all streams together before the client opens its window further (RFC 9113, section 6.9.2).
const FIRST_WINDOW_BYTES: i64 = 65_535;

pub(super) struct Watched<S, IO> {
    context: Arc<ServerContext<S>>,
    io: IO,
    received: Scanner,
    sent: Scanner,
    budget: FrameBudget,
    activity: Activity,
    heads: UnreadHeads<S>,
    /// Bytes that the client's window lets out on all streams together.
    window: i64,
    /// State that `activity` knows.
    window_is_shut: bool,
    socket_is_full: bool,
    /// Last stream that the client opened.
    last_stream: u32,
    cut: bool,
}

impl<S, IO: AsyncRead + AsyncWrite + Unpin> Watched<S, IO> {
    pub(super) fn new(
        context: Arc<ServerContext<S>>,
        io: IO,
        activity: &Activity,
        heads: UnreadHeads<S>,
    ) -> Self {
        Self {
            budget: FrameBudget::new(Http2Limits {
                continuations_max: context.limits.h2_continuations_max(),
                ..context.limits.h2
            }),
            context,
            io,
            received: Scanner::new(PREFACE_BYTES),
            sent: Scanner::new(0),
            activity: activity.clone(),
            heads,
            window: FIRST_WINDOW_BYTES,
            window_is_shut: false,
            socket_is_full: false,
            last_stream: 0,
            cut: false,
        }
    }

    /// Sends GOAWAY, if nothing else is being written, and ends the connection.
    fn cut(&mut self, cx: &mut Context<'_>, cause: HttpCause) -> io::Error {
        self.cut = true;
        self.context.counters.count(cause);
        self.heads.end(Reason::ENHANCE_YOUR_CALM);
        if self.sent.is_between_frames() {
            let mut goaway = [
                0,
                0,
                8,
                frames::GOAWAY,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            ];
            goaway[9..13].copy_from_slice(&self.last_stream.to_be_bytes());
            goaway[13..].copy_from_slice(&u32::from(Reason::ENHANCE_YOUR_CALM).to_be_bytes());
            // As much as one write takes; a client that reads nothing is told nothing.
            let _ = Pin::new(&mut self.io).poll_write(cx, &goaway);
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
        io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "too much of what costs only us",
        )
    }

    fn wrote<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>, wrote: usize) {
        let (mut left, budget, window) = (wrote, &mut self.budget, &mut self.window);
        let heads = &self.heads;
        for piece in pieces {
            let taken = piece.len().min(left);
            left -= taken;
            self.sent.scan(&piece[..taken], |frame| match frame.kind {
                frames::DATA => {
                    budget.sent_data();
                    *window -= frame.bytes as i64;
                }
                frames::HEADERS => heads.answered(frame.stream),
                frames::RST_STREAM => heads.reset(frame.stream, frame.code),
                _ => {}
            });
        }
        self.activity.wrote(self.sent.take_data_bytes());
        self.note_window();
    }

    fn note_window(&mut self) {
        let is_shut = self.window <= 0;
        if self.window_is_shut != is_shut {
            self.window_is_shut = is_shut;
            self.activity.window_is_shut(is_shut);
        }
    }

    fn note_socket<T>(&mut self, polled: &Poll<T>) {
        let is_full = polled.is_pending();
        if self.socket_is_full != is_full {
            self.socket_is_full = is_full;
            self.activity.socket_is_full(is_full);
        }
    }
}

impl<S, IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S, IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
        let read = (buffer.filled().len() - before) as u64;
        this.budget.replied(this.activity.take_pieces());
        let (mut over, budget, last) = (None, &mut this.budget, &mut this.last_stream);
        let (window, heads) = (&mut this.window, &this.heads);
        this.received.scan(&buffer.filled()[before..], |frame| {
            if matches!(frame.kind, frames::HEADERS | frames::CONTINUATION) {
                heads.came(&frame, frame.stream > *last);
                *last = frame.stream.max(*last);
            }
            if frame.kind == frames::WINDOW_UPDATE && frame.stream == 0 {
                *window += i64::from(frame.increment);
            }
            if let Err(cause) = budget.received(&frame) {
                over.get_or_insert(cause);
            }
        });
        this.activity.came(read, this.received.take_data_bytes());
        this.note_window();
        match over {
            None => Poll::Ready(Ok(())),
            Some(cause) => Poll::Ready(Err(this.cut(cx, cause))),
        }
    }
}

impl<S, IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S, IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let polled = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.note_socket(&polled);
        let wrote = ready!(polled)?;
        this.wrote(std::iter::once(bytes), wrote);
        Poll::Ready(Ok(wrote))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.note_socket(&polled);
        let wrote = ready!(polled)?;
        this.wrote(slices.iter().map(|slice| &**slice), wrote);
        Poll::Ready(Ok(wrote))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_flush(cx);
        this.note_socket(&polled);
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
