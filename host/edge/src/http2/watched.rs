//! The socket under h2: what passes is counted, and a client that does too much of what costs only us is told to
//! calm down and cut.

use super::{
    activity::Activity,
    budget::Budget,
    frames::{self, Scanner},
};
use crate::{Cause, Http2Limits, server::Shared};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`
const PREFACE_BYTES: usize = 24;
const ENHANCE_YOUR_CALM: u32 = 11;

pub(super) struct Watched<S, IO> {
    shared: Arc<Shared<S>>,
    io: IO,
    received: Scanner,
    sent: Scanner,
    budget: Budget,
    /// Bytes that the client took.
    written: Arc<AtomicU64>,
    /// Bytes that came.
    heard: Arc<AtomicU64>,
    /// The last stream that it opened.
    last_stream: u32,
    cut: bool,
}

impl<S, IO: AsyncRead + AsyncWrite + Unpin> Watched<S, IO> {
    pub(super) fn new(shared: Arc<Shared<S>>, io: IO, activity: &Activity) -> Self {
        Self {
            budget: Budget::new(Http2Limits {
                continuations_max: shared.limits.h2_continuations_max(),
                ..shared.limits.h2
            }),
            shared,
            io,
            received: Scanner::new(PREFACE_BYTES),
            sent: Scanner::new(0),
            written: activity.written(),
            heard: activity.heard(),
            last_stream: 0,
            cut: false,
        }
    }

    /// Says why, if nothing else is being said, and ends it.
    fn cut(&mut self, cx: &mut Context<'_>, cause: Cause) -> io::Error {
        self.cut = true;
        self.shared.counters.count(cause);
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
            goaway[13..].copy_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
            // All that one write takes; a client that reads nothing is told nothing.
            let _ = Pin::new(&mut self.io).poll_write(cx, &goaway);
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
        io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "too much of what costs only us",
        )
    }

    fn wrote<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>, wrote: usize) {
        self.written.fetch_add(wrote as u64, Relaxed);
        let (mut left, budget) = (wrote, &mut self.budget);
        for piece in pieces {
            let taken = piece.len().min(left);
            left -= taken;
            self.sent.scan(&piece[..taken], |frame| {
                if frame.kind == frames::DATA {
                    budget.sent_data();
                }
            });
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
        this.heard.fetch_add(read, Relaxed);
        let (mut over, budget, last) = (None, &mut this.budget, &mut this.last_stream);
        this.received.scan(&buffer.filled()[before..], |frame| {
            if frame.kind == frames::HEADERS {
                *last = frame.stream.max(*last);
            }
            if let Err(cause) = budget.received(&frame) {
                over.get_or_insert(cause);
            }
        });
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
        let wrote = ready!(Pin::new(&mut this.io).poll_write(cx, bytes))?;
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
        let wrote = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, slices))?;
        this.wrote(slices.iter().map(|slice| &**slice), wrote);
        Poll::Ready(Ok(wrote))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
