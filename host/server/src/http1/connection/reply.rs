//! The reply to one request: waited for, written, and the connection made ready for the next request.

use super::{AfterReply, Http1Connection};
use crate::{
    Service,
    http1::{
        intake::{Intake, PIECE_BYTES},
        output::GATHER_BYTES_MAX,
        respond,
        wire::{EarlyEnd, read_some},
    },
    reply::{self, Persistence, ReplyContext},
};
use protoplex_http::{BodyError, Reply, ReplyBody, chunked::DecodedChunk};
use protoplex_net::Duplex;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};
use tokio::time::{Instant, timeout_at};

impl<S, IO> Http1Connection<'_, S, IO>
where
    S: Service,
    IO: Duplex,
{
    /// Writes the interim responses that have come before the reply.
    pub(super) fn write_interims(&mut self) {
        for interim in self.interims.take() {
            respond::interim(&mut self.wire.out, &interim);
        }
    }

    /// Writes a reply and gets ready for the next request.
    pub(super) async fn reply(
        &mut self,
        reply: Reply,
        asked: &ReplyContext,
        intake: &mut Intake,
    ) -> Result<AfterReply, EarlyEnd> {
        // Bytes behind a CONNECT are meant for the tunnel.
        let is_last = self.wire.is_half_closed() && self.wire.input.is_empty();
        let may_follow = asked.keep_alive
            && !asked.is_connect
            && !reply.close
            && !self.wire.leaving.is_cancelled()
            && !is_last;
        if reply::is_tunnel(&reply) {
            respond::tunnel_head(&mut self.wire.out, &reply, asked);
            self.wire.flush().await?;
            return match reply.body {
                ReplyBody::Switch(switch) => Ok(AfterReply::Switch(switch)),
                ReplyBody::Tunnel(server) => {
                    self.wire.tunnel(server, asked).await?;
                    Ok(AfterReply::Close { unread: false })
                }
                _ => Err(EarlyEnd::Io),
            };
        }
        let is_stream = matches!(reply.body, ReplyBody::Stream(_));
        let after = if is_stream || matches!(reply.body, ReplyBody::Relay(_)) {
            // Behind the head is too late to ask for the body. A stream may want it yet; a server that was relayed to
            // and has not asked for it by its response does not.
            let mut owes_continue = std::mem::take(&mut intake.owes_continue);
            if owes_continue && intake.producer.may_want(is_stream) {
                owes_continue = false;
                self.wire.out.extend_from_slice(respond::CONTINUE);
            }
            let after = Persistence::new(may_follow && !owes_continue);
            self.wire.write_stream(reply, asked, after, intake).await?
        } else {
            // A client that still waits for `100 Continue` may or may not send its body: close.
            let may_follow = may_follow
                && !intake.owes_continue
                && intake.announced() <= self.wire.context.limits.drain_bytes_max;
            let after = Persistence::new(may_follow);
            if let Some(large) = self.wire.write_ready(reply, asked, after) {
                self.wire.tail = large;
                self.wire.flush().await?;
            }
            after
        };
        if self.wire.out.len() > GATHER_BYTES_MAX {
            self.wire.flush().await?;
        }
        if after == Persistence::KeepAlive && self.drain_body(intake).await? {
            return Ok(AfterReply::Request);
        }
        let unread = !intake.finished || intake.failed.is_some();
        Ok(AfterReply::Close { unread })
    }

    /// Waits for a reply; the request's body comes in meanwhile, and a client that resets the connection ends it.
    pub(super) async fn wait_for<F: Future + Unpin>(
        &mut self,
        mut reply: F,
        intake: &mut Intake,
    ) -> Result<F::Output, EarlyEnd> {
        poll_fn(|cx| {
            if let Poll::Ready(reply) = Pin::new(&mut reply).poll(cx) {
                return Poll::Ready(Ok(reply));
            }
            self.write_interims();
            // An interim response, a `100 Continue`, or the end of the reply before that did not go out at once.
            if self.wire.is_owing()
                && let Poll::Ready(Err(end)) = self.wire.poll_flush(cx)
            {
                return Poll::Ready(Err(end));
            }
            match self.wire.poll_intake(cx, intake) {
                Ok(()) => Poll::Pending,
                Err(end) => Poll::Ready(Err(end)),
            }
        })
        .await
    }

    /// Reads what nobody wanted of a body, up to a size and for a time. Returns whether the connection can be used
    /// again.
    pub(super) async fn drain_body(&mut self, intake: &mut Intake) -> Result<bool, EarlyEnd> {
        if intake.failed.is_some() {
            return Ok(false);
        }
        if !intake.finished {
            intake.producer.fail(BodyError::Incomplete(
                "the reply was done before the body".into(),
            ));
        }
        let limits = &self.wire.context.limits;
        let mut left = limits.drain_bytes_max;
        let deadline = Instant::now() + limits.body_timeout;
        while !intake.finished {
            match intake.decode(&mut self.wire.input) {
                Ok(DecodedChunk::Data(piece)) => match left.checked_sub(piece.len() as u64) {
                    Some(rest) => left = rest,
                    None => return Ok(false),
                },
                Ok(DecodedChunk::End) => intake.finished = true,
                Err(_) => return Ok(false),
                Ok(DecodedChunk::NeedsMore) => {
                    self.wire.flush().await?;
                    let read = read_some(&mut self.wire.io, &mut self.wire.input, PIECE_BYTES);
                    match timeout_at(deadline, read).await {
                        Ok(Ok(read)) if read > 0 => {}
                        _ => return Ok(false),
                    }
                }
            }
        }
        Ok(true)
    }
}
