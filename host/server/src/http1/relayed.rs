//! Replies from an upstream's connection: the rest of a large body moved from socket to socket, and tunnels.

use super::wire::{EarlyEnd, Wire};
use crate::{Service, identity, reply::ReplyContext, tunnel};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use protoplex_http::{RelayBody, SocketBody, SocketRest, StreamError, Tunnel};
use protoplex_net::{Duplex, GaugeGuard, Splice, Spliced};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

/// Least rest of a body that is spliced: below, a copy is cheaper than the system calls.
const SPLICE_BYTES_MIN: u64 = 64 << 10;

/// Source of a streamed reply.
pub(super) enum ReplySource {
    Stream(UnsyncBoxBody<Bytes, StreamError>),
    Relay(Box<dyn RelayBody>),
}

impl ReplySource {
    /// The body as bytes of a server's socket, if it can be that.
    pub(super) fn as_socket(&mut self) -> Option<&mut dyn SocketBody> {
        match self {
            Self::Stream(_) => None,
            Self::Relay(body) => body.as_socket(),
        }
    }

    /// Sends more of the request while the client takes nothing of the reply.
    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>) {
        if let Self::Relay(body) = self {
            body.poll_request(cx);
        }
    }
}

impl HttpBody for ReplySource {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match &mut *self {
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
            Self::Relay(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stream(body) => body.size_hint(),
            Self::Relay(body) => body.size_hint(),
        }
    }
}

impl<S, IO> Wire<'_, S, IO>
where
    S: Service,
    IO: Duplex,
{
    /// Moves the rest of a body from socket to socket, if that is all that there is to do, and it is worth it.
    pub(super) async fn splice(
        &mut self,
        body: &mut dyn SocketBody,
        left: &mut u64,
    ) -> Result<(), EarlyEnd> {
        let large = |rest: SocketRest<'_>| *rest.left >= SPLICE_BYTES_MIN;
        if self.io.tcp().is_none() || !body.rest().is_some_and(large) {
            return Ok(());
        }
        self.flush().await?;
        let mut splice = Splice::new();
        let mut waits = Box::pin(tokio::time::sleep_until(body.idle_at()));
        poll_fn(|cx| {
            loop {
                let (Some(client), Some(rest)) = (self.io.tcp(), body.rest()) else {
                    return Poll::Ready(Err(EarlyEnd::Io));
                };
                if *rest.left == 0 && splice.held() == 0 {
                    return Poll::Ready(Ok(()));
                }
                let held = splice.held() as u64;
                let Poll::Ready(moved) = splice.poll(rest.socket, client, *rest.left, cx) else {
                    *rest.left -= (splice.held() as u64).saturating_sub(held);
                    break;
                };
                match moved {
                    Ok(Spliced::Bytes(bytes)) => {
                        let bytes = bytes as u64;
                        *rest.left -= (splice.held() as u64 + bytes).saturating_sub(held);
                        *left = left.saturating_sub(bytes);
                        self.sent += bytes;
                        self.pace
                            .moved(usize::try_from(bytes).unwrap_or(usize::MAX));
                        waits.as_mut().reset(body.idle_at());
                    }
                    // The server ended early, or one of them broke: the client can tell.
                    Ok(Spliced::End) | Err(_) => return Poll::Ready(Err(EarlyEnd::Io)),
                }
            }
            if body.poll_cut(cx).is_ready() {
                return Poll::Ready(Err(EarlyEnd::Io));
            }
            if splice.held() > 0 {
                // The client is what is waited for here.
                return self.poll_stalled(cx);
            }
            self.pace.pause();
            waits.as_mut().poll(cx).map(|()| Err(EarlyEnd::Io))
        })
        .await
    }

    /// Runs the connection as a tunnel; the head of the reply is out.
    pub(super) async fn tunnel(
        &mut self,
        server: Tunnel,
        asked: &ReplyContext,
    ) -> Result<(), EarlyEnd> {
        let early = std::mem::take(&mut self.input).freeze();
        let idle = self.context.limits.tunnel_idle_timeout;
        let _counted = GaugeGuard::new(&self.context.tunnels);
        let carried = tunnel::run(&mut self.io, early, server, idle).await;
        let request = identity::text(&asked.id);
        match carried {
            Ok(carried) => {
                tracing::debug!(
                    request,
                    up = carried.up,
                    down = carried.down,
                    "a tunnel ended"
                );
                Ok(())
            }
            Err(error) => {
                tracing::debug!(request, %error, "a tunnel ended with an error; both of its ends are reset");
                // No goodbye, not of TLS either: a goodbye would say that all is there.
                Err(EarlyEnd::Io)
            }
        }
    }
}
