//! A request on its way out to a server: the head, then the body as the client's connection brings it.

use super::{connect::Stream, patience::Awaited};
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body as HttpBody;
use protoplex_http::{Body, BodyError, chunked};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// Why a request did not get out whole.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The server's doing.
    Server(io::Error),
    /// The client's doing.
    Client(BodyError),
}

/// The rest of one request that is to be sent.
pub(super) struct Sending {
    /// Goes out in this order.
    out: [Bytes; 3],
    body: Option<Body>,
    chunked: bool,
    /// Bytes left of a body of known length.
    left: u64,
    /// The body is not asked for yet: the server has not said `100 Continue`.
    pub(super) holds: bool,
    /// A byte was written.
    pub(super) begun: bool,
    /// The body was asked for, so that the request cannot be sent again.
    pub(super) touched: bool,
    flushed: bool,
    had_body: bool,
    /// Writes that took something of the body.
    pub(super) taken: u64,
}

impl Sending {
    /// `length` of the body; chunks where it is not known.
    pub(super) fn new(head: Bytes, body: Body, length: Option<u64>, holds: bool) -> Self {
        let body = (!body.is_absent()).then_some(body);
        Self {
            out: [head, Bytes::new(), Bytes::new()],
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
        self.flushed && self.body.is_none() && self.out.iter().all(Bytes::is_empty)
    }

    /// Whether the client owes what is left of the body: its length is known.
    pub(super) fn is_owed(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_owed)
    }

    /// The side whose turn it is, after a poll.
    pub(super) fn awaited(&self) -> Awaited {
        let is_out = self.flushed && self.out.iter().all(Bytes::is_empty);
        match (is_out, self.body.is_some() && !self.holds) {
            (false, _) => Awaited::Room,
            (true, true) => Awaited::Client,
            (true, false) => Awaited::Response,
        }
    }

    /// The body, if nobody has asked for any of it.
    pub(super) fn untouched_body(&mut self) -> Option<Body> {
        if self.touched {
            return None;
        }
        Some(self.body.take().unwrap_or_else(Body::empty))
    }

    /// Gets on as far as it can.
    pub(super) fn poll(
        &mut self,
        io: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        loop {
            ready!(self.poll_write(io, cx)).map_err(Unsent::Server)?;
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
                Some(Err(error)) => return Poll::Ready(Err(Unsent::Client(error))),
                None => self.end(None)?,
            }
        }
    }

    fn piece(&mut self, data: Bytes) -> Result<(), Unsent> {
        if data.is_empty() {
            return Ok(());
        }
        if self.chunked {
            let size = Bytes::from(format!("{:x}\r\n", data.len()));
            self.out = [size, data, Bytes::from_static(b"\r\n")];
        } else {
            self.left = self.left.checked_sub(data.len() as u64).ok_or_else(|| {
                Unsent::Client(BodyError::Malformed("it is longer than announced".into()))
            })?;
            self.out[0] = data;
        }
        self.flushed = false;
        Ok(())
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Unsent> {
        self.body = None;
        if self.chunked {
            let mut last = Vec::new();
            chunked::last_chunk(&mut last, trailers);
            self.out[0] = last.into();
            self.flushed = false;
        } else if self.left > 0 {
            let why = "it is shorter than announced".into();
            return Err(Unsent::Client(BodyError::Incomplete(why)));
        }
        Ok(())
    }

    fn poll_write(&mut self, io: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out.iter().any(|part| !part.is_empty()) {
            let [first, second, third] = &self.out;
            let polled = if second.is_empty() && third.is_empty() {
                Pin::new(&mut *io).poll_write(cx, first)
            } else {
                let slices = [first, second, third].map(|part| IoSlice::new(part));
                Pin::new(&mut *io).poll_write_vectored(cx, &slices)
            };
            let mut wrote = ready!(polled)?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
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
