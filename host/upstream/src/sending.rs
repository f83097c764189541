//! A request on its way to a server by HTTP/1.1: the head, then the body as the client's connection brings it.

use super::{connect::ServerStream, deadlines::AwaitedSide};
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body as HttpBody;
use protoplex_http::{Body, BodyError, TextBuffer, chunked};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// Why a request by HTTP/1.1 was not sent whole.
#[derive(Debug)]
pub(super) enum Http1SendError {
    /// The connection to the server failed.
    Server(io::Error),
    /// The client's body failed.
    Client(BodyError),
}

/// Part of a request by HTTP/1.1 that is still to be sent.
pub(super) struct RequestSender {
    head: TextBuffer,
    /// Bytes of `head` that are written.
    head_written: usize,
    /// Pieces of the body to write, in this order; empty until the head is out.
    out: [Bytes; 3],
    body: Option<Body>,
    chunked: bool,
    /// Bytes left of a body of known length.
    left: u64,
    /// Whether the body waits for the server's `100 Continue`.
    pub(super) holds: bool,
    /// Whether a byte was written.
    pub(super) begun: bool,
    /// Whether the body was asked for, so that the request cannot be sent again.
    pub(super) touched: bool,
    flushed: bool,
    had_body: bool,
    /// Number of writes that took something of the body.
    pub(super) taken: u64,
}

impl RequestSender {
    /// Begins before the first byte. The body goes in chunks where `length` is not known, and is held back until `100
    /// Continue` where `holds` says so.
    pub(super) fn new(head: TextBuffer, body: Body, length: Option<u64>, holds: bool) -> Self {
        let body = (!body.is_absent()).then_some(body);
        Self {
            head,
            head_written: 0,
            out: Default::default(),
            holds: holds && body.is_some(),
            chunked: length.is_none(),
            left: length.unwrap_or_default(),
            had_body: body.is_some(),
            body,
            begun: false,
            touched: false,
            flushed: false,
            taken: 0,
        }
    }

    /// Whether there was a body to send.
    pub(super) fn had_body(&self) -> bool {
        self.had_body
    }

    /// Whether everything is out.
    pub(super) fn is_over(&self) -> bool {
        self.flushed && self.body.is_none() && self.is_written()
    }

    /// Whether all that is here is written.
    fn is_written(&self) -> bool {
        self.head_written == self.head.len() && self.out.iter().all(Bytes::is_empty)
    }

    /// The head, for another attempt.
    pub(super) fn take_head(&mut self) -> TextBuffer {
        std::mem::take(&mut self.head)
    }

    /// Whether the client owes the rest of the body, because its length is known.
    pub(super) fn is_owed(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_owed)
    }

    /// Side that has to move next, after a poll.
    pub(super) fn awaited(&self) -> AwaitedSide {
        let is_out = self.flushed && self.is_written();
        match (is_out, self.body.is_some() && !self.holds) {
            (false, _) => AwaitedSide::Room,
            (true, true) => AwaitedSide::Client,
            (true, false) => AwaitedSide::Response,
        }
    }

    /// The body, if nobody has asked for any of it.
    pub(super) fn untouched_body(&mut self) -> Option<Body> {
        if self.touched {
            return None;
        }
        Some(self.body.take().unwrap_or_else(Body::empty))
    }

    /// Sends as much as the socket takes and the client brings. Ready when all is sent.
    pub(super) fn poll(
        &mut self,
        io: &mut ServerStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Http1SendError>> {
        loop {
            ready!(self.poll_write(io, cx)).map_err(Http1SendError::Server)?;
            let Some(body) = &mut self.body else {
                return Poll::Ready(Ok(()));
            };
            if self.holds {
                return Poll::Pending;
            }
            self.touched = true;
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.piece(data)?,
                    Err(frame) => self.end(frame.trailers_ref())?,
                },
                Some(Err(error)) => return Poll::Ready(Err(Http1SendError::Client(error))),
                None => self.end(None)?,
            }
        }
    }

    fn piece(&mut self, data: Bytes) -> Result<(), Http1SendError> {
        if data.is_empty() {
            return Ok(());
        }
        if self.chunked {
            let size = Bytes::from(format!("{:x}\r\n", data.len()));
            self.out = [size, data, Bytes::from_static(b"\r\n")];
        } else {
            self.left = self.left.checked_sub(data.len() as u64).ok_or_else(|| {
                Http1SendError::Client(BodyError::Malformed("it is longer than announced".into()))
            })?;
            self.out[0] = data;
        }
        self.flushed = false;
        Ok(())
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Http1SendError> {
        self.body = None;
        if self.chunked {
            let mut last = Vec::new();
            chunked::last_chunk(&mut last, trailers);
            self.out[0] = last.into();
            self.flushed = false;
        } else if self.left > 0 {
            let why = "it is shorter than announced".into();
            return Err(Http1SendError::Client(BodyError::Incomplete(why)));
        }
        Ok(())
    }

    fn poll_write(&mut self, io: &mut ServerStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.head_written < self.head.len() {
            let rest = &self.head[self.head_written..];
            let wrote = written(ready!(Pin::new(&mut *io).poll_write(cx, rest)))?;
            self.head_written += wrote;
            self.begun = true;
        }
        while self.out.iter().any(|part| !part.is_empty()) {
            let [first, second, third] = &self.out;
            let polled = if second.is_empty() && third.is_empty() {
                Pin::new(&mut *io).poll_write(cx, first)
            } else {
                let slices = [first, second, third].map(|part| IoSlice::new(part));
                Pin::new(&mut *io).poll_write_vectored(cx, &slices)
            };
            let mut wrote = written(ready!(polled))?;
            self.taken += u64::from(self.touched);
            for part in &mut self.out {
                let of_part = wrote.min(part.len());
                part.advance(of_part);
                wrote -= of_part;
            }
        }
        if !self.flushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// A write of nothing is an end.
fn written(wrote: io::Result<usize>) -> io::Result<usize> {
    match wrote? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        wrote => Ok(wrote),
    }
}
