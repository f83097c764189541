//! Body of a response by HTTP/1.1, as the connection to the client takes it: frames, or the rest of a socket.

use super::{ending::Ending, exchange::Http1Exchange, pool::Http1Pool, servers::Lease};
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

/// Body of a relayed response, once the head has come. Gives the connection back to its pool after the last byte.
pub(crate) struct RelayedBody {
    /// `None` once the connection went back to the pool.
    exchange: Option<Http1Exchange>,
    /// Where the connection goes when both directions are over; `None` where it cannot be used again.
    pool: Option<Arc<Http1Pool>>,
    ending: Ending,
    /// Permit of the request at the server, until the body is over.
    _lease: Lease,
}

impl RelayedBody {
    pub(super) fn new(
        exchange: Http1Exchange,
        pool: Option<Arc<Http1Pool>>,
        ending: Ending,
        lease: Lease,
    ) -> Self {
        Self {
            exchange: Some(exchange),
            pool,
            ending,
            _lease: lease,
        }
    }

    /// Gives the connection back if another request may follow on it. Called with the last byte, and by the drop.
    fn finish(&mut self) {
        let Some(exchange) = self.exchange.take() else {
            return;
        };
        match &self.pool {
            Some(pool) if exchange.is_over() => pool.put_back(exchange.connection),
            _ => exchange.give_up(),
        }
    }
}

impl Drop for RelayedBody {
    fn drop(&mut self) {
        self.finish();
    }
}

impl HttpBody for RelayedBody {
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
        // A body that is whole is not ended early.
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
            .map_or(Some(0), Http1Exchange::length_left);
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl RelayBody for RelayedBody {
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

impl SocketBody for RelayedBody {
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
