//! A response's body as a connection to a client takes it: frames, or the rest of a socket.

use super::{ending::Ending, exchange::Exchange, pool::Pool, servers::Lease};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use protoplex_http::{RelayBody, SocketBody, SocketRest, StreamError};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;

/// The rest of an exchange when its head has come.
pub(crate) struct Body {
    /// `None` once its connection went back to the pool.
    exchange: Option<Exchange>,
    keep_alive: bool,
    pool: Arc<Pool>,
    ending: Ending,
    /// The server counts this request until it is over.
    _lease: Lease,
}

impl Body {
    pub(super) fn new(
        exchange: Exchange,
        keep_alive: bool,
        pool: Arc<Pool>,
        ending: Ending,
        lease: Lease,
    ) -> Self {
        Self {
            exchange: Some(exchange),
            keep_alive,
            pool,
            ending,
            _lease: lease,
        }
    }

    /// Gives the connection back if it can be used again. Whoever took the last byte calls it, or the drop does.
    fn finish(&mut self) {
        let Some(exchange) = self.exchange.take() else {
            return;
        };
        if self.keep_alive && exchange.is_over() {
            self.pool.put_back(exchange.connection);
        } else {
            exchange.give_up();
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.finish();
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let body = &mut *self;
        let Some(exchange) = &mut body.exchange else {
            return Poll::Ready(None);
        };
        // What is whole is not cut any more.
        let is_whole = exchange.length_left() == Some(0);
        if !is_whole && let Poll::Ready(error) = body.ending.poll_over(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        match exchange.poll_frame(&body.ending, cx) {
            Poll::Ready(None) => {
                body.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(frame)) => Poll::Ready(Some(frame.map_err(Into::into))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.exchange
            .as_ref()
            .is_none_or(|exchange| exchange.length_left() == Some(0))
    }

    fn size_hint(&self) -> SizeHint {
        let left = self
            .exchange
            .as_ref()
            .map_or(Some(0), Exchange::length_left);
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl RelayBody for Body {
    fn poll_request(&mut self, cx: &mut Context<'_>) {
        if let Some(exchange) = &mut self.exchange {
            exchange.poll_request(cx);
        }
    }

    fn end_with(&mut self, cut: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.ending.cut_by(cut);
    }

    fn as_socket(&mut self) -> Option<&mut dyn SocketBody> {
        Some(self)
    }
}

impl SocketBody for Body {
    fn rest(&mut self) -> Option<SocketRest<'_>> {
        self.exchange.as_mut()?.socket_rest()
    }

    fn idle_at(&self) -> Instant {
        self.ending.idle_at()
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ending.poll_cut(cx).map(drop)
    }
}
