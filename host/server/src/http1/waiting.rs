//! Waits for a client: for its first bytes, for the head of a request, and between two requests.

use super::{
    head::{self, HeadScan},
    wire::{EarlyEnd, READ_BYTES, Wire, poll_read, read_some},
};
use crate::{HttpCause, Service, refusal::HttpRefusal};
use bytes::Buf;
use http::StatusCode;
use protoplex_http::TextBuffer;
use protoplex_net as net;
use protoplex_net::Duplex;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};
use tokio::time::{Instant, timeout_at};

/// First bytes of HTTP/2 with prior knowledge.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

const SLOW_HEAD: HttpRefusal = HttpRefusal(StatusCode::REQUEST_TIMEOUT, "the head came too slowly");

/// Outcome of the wait for a request.
enum HeadWait {
    Bytes,
    /// The connection is to close.
    Over,
    TooLong,
}

impl<S, IO> Wire<'_, S, IO>
where
    S: Service,
    IO: Duplex,
{
    /// Waits for the first bytes. `true` where they begin HTTP/2 with prior knowledge.
    pub(super) async fn first_bytes(&mut self) -> Result<Result<bool, HttpRefusal>, EarlyEnd> {
        let context = self.context;
        let since = Instant::now();
        let mut deadline = since + context.limits.net.first_byte_timeout;
        loop {
            let seen = self.input.len().min(PREFACE.len());
            if self.input[..seen] != PREFACE[..seen] {
                return Ok(Ok(false));
            }
            if seen == PREFACE.len() {
                return Ok(Ok(true));
            }
            let read = timeout_at(
                deadline,
                read_some(&mut self.io, &mut self.input, READ_BYTES),
            );
            let draining = context.connections.leave_unasked(self.leaving, since);
            // A request that has begun already is answered, even while we drain.
            let read = tokio::select! { biased; read = read => read, () = draining, if seen == 0 => return Err(EarlyEnd::Io) };
            match read {
                Ok(Ok(read)) if read > 0 => {}
                Err(_) if seen > 0 => {
                    context.counters.count(HttpCause::SlowHead);
                    return Ok(Err(SLOW_HEAD));
                }
                Err(_) => {
                    context
                        .connections
                        .counters()
                        .count(net::RefusalCause::Silent);
                    return Err(EarlyEnd::Io);
                }
                _ => return Err(EarlyEnd::Io),
            }
            // `P` may be a POST as well: from here on it is a head.
            deadline = *self
                .head_deadline
                .get_or_insert_with(|| Instant::now() + context.limits.head_timeout);
        }
    }

    /// Reads until a whole head is in the buffer. `None` when the client or we have had enough.
    ///
    /// `draining` is not polled any more once it was ready.
    pub(super) async fn head_end(
        &mut self,
        mut draining: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Result<Option<usize>, HttpRefusal>, EarlyEnd> {
        let context = self.context;
        let limits = &context.limits;
        let head_limits = self.head_limits;
        let (mut scan, mut forgiven) = (HeadScan::default(), false);
        let mut deadline = self.head_deadline.take();
        loop {
            // One empty line before a request is forgiven (RFC 9112, section 2.2).
            if !forgiven && self.input.starts_with(b"\r\n") {
                self.input.advance(2);
                (scan, forgiven) = (HeadScan::default(), true);
            }
            if !self.input.is_empty() {
                match head::find_end(&self.input, &mut scan, &head_limits) {
                    Ok(None) => {}
                    found => return Ok(found),
                }
            }
            if !self.out.is_empty() {
                self.flush().await?;
            }
            if self.input.is_empty() {
                match self.next_bytes(draining.as_mut()).await {
                    HeadWait::Bytes => {}
                    HeadWait::Over => return Ok(Ok(None)),
                    HeadWait::TooLong => {
                        context.counters.count(HttpCause::Idle);
                        return Ok(Ok(None));
                    }
                }
            } else {
                let deadline =
                    *deadline.get_or_insert_with(|| Instant::now() + limits.head_timeout);
                let read = read_some(&mut self.io, &mut self.input, READ_BYTES);
                match timeout_at(deadline, read).await {
                    Ok(Ok(read)) if read > 0 => {}
                    Ok(_) => return Ok(Ok(None)),
                    Err(_) => {
                        context.counters.count(HttpCause::SlowHead);
                        return Ok(Err(SLOW_HEAD));
                    }
                }
            }
        }
    }

    /// Waits for the first bytes of the next request, without a buffer.
    async fn next_bytes(&mut self, mut draining: Pin<&mut impl Future<Output = ()>>) -> HeadWait {
        self.input.release();
        self.out = TextBuffer::default();
        let mut since = None;
        poll_fn(|cx| {
            // The client does not take the end of the last reply: it keeps the pace of a reader, or goes.
            if self.is_owing()
                && let Poll::Ready(Err(_)) = self.poll_flush(cx)
            {
                return Poll::Ready(HeadWait::Over);
            }
            if let Poll::Ready(read) = poll_read(&mut self.io, &mut self.input, READ_BYTES, cx) {
                return Poll::Ready(match read {
                    Ok(read) if read > 0 => HeadWait::Bytes,
                    _ => HeadWait::Over,
                });
            }
            let since = *since.get_or_insert_with(Instant::now);
            let idle_max = self.context.limits.idle_timeout;
            if self.timer.poll_until(since + idle_max, cx).is_ready() {
                return Poll::Ready(HeadWait::TooLong);
            }
            draining.as_mut().poll(cx).map(|()| HeadWait::Over)
        })
        .await
    }
}
