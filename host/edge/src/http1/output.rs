//! Replies on their way out: gathered, written, given up where the client takes nothing.

use super::{
    connection::{Connection, End},
    intake::Intake,
    relayed::Source,
    respond::{self, Asked, Framing},
};
use crate::{Cause, Service, identity};
use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame};
use protoplex_http::{Duplex, Reply, ReplyBody, StreamError, chunked, trailers};
use std::{
    future::poll_fn,
    io::IoSlice,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// Bodies up to this are copied behind their head and written with it.
const COPY_BYTES_MAX: usize = 16 << 10;
/// Replies to pipelined requests are gathered up to this.
pub(super) const GATHER_BYTES_MAX: usize = 64 << 10;
/// A write buffer that grew above this is given back.
const KEEP_BYTES_MAX: usize = 128 << 10;

impl<S, IO> Connection<'_, S, IO>
where
    S: Service,
    IO: Duplex,
{
    /// Writes head and body into the buffer; a large body is handed back to be written without a copy.
    pub(super) fn write_ready(
        &mut self,
        reply: Reply,
        asked: &Asked,
        may_follow: bool,
    ) -> Option<Bytes> {
        let (framing, length) = respond::framing(&reply, asked);
        respond::head(&mut self.out, &reply, asked, framing, length, !may_follow);
        match (framing, reply.body) {
            (Framing::Length(_), ReplyBody::Full(body)) if body.len() <= COPY_BYTES_MAX => {
                self.out.extend_from_slice(&body);
                None
            }
            (Framing::Length(_), ReplyBody::Full(body)) => Some(body),
            _ => None,
        }
    }

    /// Writes a streamed reply while the request's body is still being read. `false` when the connection must close.
    pub(super) async fn write_stream(
        &mut self,
        reply: Reply,
        asked: &Asked,
        may_follow: bool,
        intake: &mut Intake,
    ) -> Result<bool, End> {
        intake.answered();
        let (framing, length) = respond::framing(&reply, asked);
        let close = !may_follow || framing == Framing::Close;
        respond::head(&mut self.out, &reply, asked, framing, length, close);
        let mut body = match reply.body {
            ReplyBody::Stream(body) => {
                intake.converse(&self.shared.body_rules);
                Source::Stream(body)
            }
            ReplyBody::Relay(body) => Source::Relay(body),
            _ => return Ok(!close),
        };
        if framing == Framing::None {
            return Ok(!close);
        }
        if framing == Framing::Close {
            self.reset_at_close(true);
        }
        let mut left = length.unwrap_or(u64::MAX);
        let mut last = None;
        loop {
            if let (Framing::Length(_), true, Some(body)) =
                (framing, intake.finished, body.as_socket())
            {
                self.splice(body, &mut left).await?;
            }
            let frame = match self.next_frame(&mut body, intake).await? {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return self.cut(asked, &error.to_string()).await,
            };
            match frame.into_data() {
                Ok(data) => {
                    let Some(rest) = left.checked_sub(data.len() as u64) else {
                        // The client must not take it for the next reply.
                        return self.cut(asked, "it is longer than it announced").await;
                    };
                    left = rest;
                    self.write_piece(data, framing, &mut body, intake).await?;
                }
                Err(frame) => {
                    last = frame.into_trailers().ok();
                    if let Some(Err(error)) = last.as_mut().map(trailers::check) {
                        return self.cut(asked, &error.to_string()).await;
                    }
                }
            }
        }
        match framing {
            Framing::Chunked => chunked::last_chunk(&mut self.out, last.as_ref()),
            Framing::Length(_) if left > 0 => {
                return self.cut(asked, "it is shorter than it announced").await;
            }
            Framing::Close => {
                self.flush().await?;
                self.reset_at_close(false);
            }
            _ => {}
        }
        Ok(!close)
    }

    /// Makes the end of a plain socket a reset, or no longer. A reply that nothing else ends than its connection
    /// (HTTP/1.0 without a length) would look whole at whatever ends it early, be it this process. TLS tells by itself:
    /// the notice of its end is missing.
    fn reset_at_close(&self, resets: bool) {
        let Some(socket) = self.io.tcp() else {
            return;
        };
        let linger = resets.then_some(Duration::ZERO);
        if let Err(error) = socket2::SockRef::from(socket).set_linger(linger) {
            tracing::debug!(%error, "a socket's end cannot be made a reset");
        }
    }

    /// The client gets what there was, and an end that it can tell from a whole reply's.
    async fn cut(&mut self, asked: &Asked, why: &str) -> Result<bool, End> {
        let request = identity::text(&asked.id);
        tracing::warn!(request, why, "a reply was cut in its body");
        self.flush().await?;
        Err(End::Io)
    }

    /// The next frame of a reply; meanwhile what was gathered goes out and the request's body comes in.
    async fn next_frame<B>(
        &mut self,
        body: &mut B,
        intake: &mut Intake,
    ) -> Result<Result<Option<Frame<Bytes>>, StreamError>, End>
    where
        B: HttpBody<Data = Bytes, Error = StreamError> + Unpin,
    {
        poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *body).poll_frame(cx)));
            match polled
                .unwrap_or_else(|_| Poll::Ready(Some(Err("the reply's body panicked".into()))))
            {
                Poll::Ready(frame) => {
                    intake.answer_moved();
                    return Poll::Ready(Ok(frame.transpose()));
                }
                Poll::Pending => {}
            }
            // Blocked or done, both are fine here.
            if let Poll::Ready(Err(end)) = self.poll_flush(cx) {
                return Poll::Ready(Err(end));
            }
            if let Err(end) = self.poll_intake(cx, intake) {
                return Poll::Ready(Err(end));
            }
            intake.poll_silent(cx).map(|()| {
                self.shared.counters.count(Cause::SlowBody);
                Ok(Err("client and app were silent for too long".into()))
            })
        })
        .await
    }

    async fn write_piece(
        &mut self,
        data: Bytes,
        framing: Framing,
        body: &mut Source,
        intake: &mut Intake,
    ) -> Result<(), End> {
        let is_chunked = framing == Framing::Chunked;
        if data.len() <= COPY_BYTES_MAX {
            if is_chunked {
                chunked::chunk(&mut self.out, &data);
            } else {
                self.out.extend_from_slice(&data);
            }
            return if self.out.len() > GATHER_BYTES_MAX {
                self.flush_with(body, intake).await
            } else {
                Ok(())
            };
        }
        if is_chunked {
            self.out
                .extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        }
        self.tail = data;
        self.flush_with(body, intake).await?;
        if is_chunked {
            self.out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// Writes all that was gathered; meanwhile the request's body comes in, and goes on to where the reply is from.
    async fn flush_with(&mut self, body: &mut Source, intake: &mut Intake) -> Result<(), End> {
        poll_fn(|cx| {
            if let Poll::Ready(flushed) = self.poll_flush(cx) {
                return Poll::Ready(flushed);
            }
            body.poll_request(cx);
            match self.poll_intake(cx, intake) {
                Ok(()) => Poll::Pending,
                Err(end) => Poll::Ready(Err(end)),
            }
        })
        .await
    }

    pub(super) async fn flush(&mut self) -> Result<(), End> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Writes the buffer and then the tail. A client that takes nothing for too long is given up.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        while self.written < self.out.len() || !self.tail.is_empty() {
            let rest = &self.out[self.written..];
            let polled = if self.tail.is_empty() {
                // Most replies: the plain call is the cheaper one.
                Pin::new(&mut self.io).poll_write(cx, rest)
            } else {
                let slices = [IoSlice::new(rest), IoSlice::new(&self.tail)];
                Pin::new(&mut self.io).poll_write_vectored(cx, &slices)
            };
            let wrote = match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(End::Io)),
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
        self.out.clear();
        self.out.shrink_to(KEEP_BYTES_MAX);
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let limits = &self.shared.limits;
        let rule = match self.is_inner {
            true => limits.inner_rule(),
            false => limits.write_rule(),
        };
        self.pace.poll_too_slow(&rule, cx).map(|()| {
            self.shared.counters.count(Cause::SlowReader);
            Err(End::Io)
        })
    }
}
