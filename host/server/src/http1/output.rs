//! Replies on their way out: gathered, written, and given up where the client takes nothing.

use super::{
    intake::Intake,
    relayed::ReplySource,
    respond,
    wire::{EarlyEnd, Wire},
};
use crate::{
    HttpCause, Service, identity,
    reply::{self, Persistence, ReplyContext, ReplyFraming},
};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use protoplex_http::{Reply, ReplyBody, StreamError, chunked, trailers};
use protoplex_net::Duplex;
use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::Poll,
    time::Duration,
};

/// Largest body that is copied behind its head and written with it.
const COPY_BYTES_MAX: usize = 16 << 10;
/// Most bytes of replies to pipelined requests that are gathered before a write.
pub(super) const GATHER_BYTES_MAX: usize = 64 << 10;

impl<S, IO> Wire<'_, S, IO>
where
    S: Service,
    IO: Duplex,
{
    /// Writes head and body into the buffer; a large body is handed back to be written without a copy.
    pub(super) fn write_ready(
        &mut self,
        reply: Reply,
        asked: &ReplyContext,
        after: Persistence,
    ) -> Option<Bytes> {
        let (framing, length) = reply::framing(&reply, asked);
        self.out.make_room();
        respond::head(&mut self.out, &reply, asked, framing, length, after);
        match (framing, reply.body) {
            (ReplyFraming::Length(_), ReplyBody::Full(body)) if body.len() <= COPY_BYTES_MAX => {
                self.out.extend_from_slice(&body);
                None
            }
            (ReplyFraming::Length(_), ReplyBody::Full(body)) => Some(body),
            _ => None,
        }
    }

    /// Writes a streamed reply while the request's body is still being read. Returns whether the connection may be used again.
    pub(super) async fn write_stream(
        &mut self,
        reply: Reply,
        asked: &ReplyContext,
        after: Persistence,
        intake: &mut Intake,
    ) -> Result<Persistence, EarlyEnd> {
        intake.answered();
        let (framing, length) = reply::framing(&reply, asked);
        let after = match framing {
            ReplyFraming::Close => Persistence::Close,
            _ => after,
        };
        self.out.make_room();
        respond::head(&mut self.out, &reply, asked, framing, length, after);
        let mut body = match reply.body {
            ReplyBody::Stream(body) => {
                intake.converse(&self.context.body_rules);
                ReplySource::Stream(body)
            }
            ReplyBody::Relay(body) => ReplySource::Relay(body),
            _ => return Ok(after),
        };
        if framing == ReplyFraming::None {
            return Ok(after);
        }
        if framing == ReplyFraming::Close {
            self.reset_at_close(true);
        }
        let (mut left, mut last) = (length.unwrap_or(u64::MAX), None);
        loop {
            if let (ReplyFraming::Length(_), true, Some(body)) =
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
            ReplyFraming::Chunked => chunked::last_chunk(&mut self.out, last.as_ref()),
            ReplyFraming::Length(_) if left > 0 => {
                return self.cut(asked, "it is shorter than it announced").await;
            }
            ReplyFraming::Close => {
                self.flush().await?;
                self.reset_at_close(false);
            }
            _ => {}
        }
        Ok(after)
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
            tracing::debug!(%error, "a connection's close could not be made a reset");
        }
    }

    /// Ends a reply early: the client gets what there was, and an end that it can tell from a whole reply's.
    async fn cut(&mut self, asked: &ReplyContext, why: &str) -> Result<Persistence, EarlyEnd> {
        let request = identity::text(&asked.id);
        tracing::warn!(
            request,
            why,
            "a response was cut in its body; its connection is closed"
        );
        self.flush().await?;
        Err(EarlyEnd::Io)
    }

    /// Waits for the next frame of a reply; meanwhile what was gathered goes out and the request's body comes in.
    async fn next_frame<B>(
        &mut self,
        body: &mut B,
        intake: &mut Intake,
    ) -> Result<Result<Option<Frame<Bytes>>, StreamError>, EarlyEnd>
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
            // A write that is blocked and one that is done are both fine here.
            if let Poll::Ready(Err(end)) = self.poll_flush(cx) {
                return Poll::Ready(Err(end));
            }
            if let Err(end) = self.poll_intake(cx, intake) {
                return Poll::Ready(Err(end));
            }
            intake.poll_silent(cx).map(|()| {
                self.context.counters.count(HttpCause::SlowBody);
                Ok(Err("client and app were silent for too long".into()))
            })
        })
        .await
    }

    async fn write_piece(
        &mut self,
        data: Bytes,
        framing: ReplyFraming,
        body: &mut ReplySource,
        intake: &mut Intake,
    ) -> Result<(), EarlyEnd> {
        let is_chunked = framing == ReplyFraming::Chunked;
        self.out.make_room();
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
    async fn flush_with(
        &mut self,
        body: &mut ReplySource,
        intake: &mut Intake,
    ) -> Result<(), EarlyEnd> {
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
}
