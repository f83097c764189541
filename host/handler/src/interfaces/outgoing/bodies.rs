//! Bodies of requests that guests send, and of what comes back.

use super::permits::Permits;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

/// When something of a request was last sent, and whether the guest has to say more: until it has said all, the response
/// cannot be late.
#[derive(Debug)]
pub(super) struct Progress(Mutex<Sending>);

#[derive(Debug)]
struct Sending {
    last: Instant,
    awaits_guest: bool,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Sending {
            last: Instant::now(),
            awaits_guest: false,
        })))
    }

    /// Notes that a piece of the request was sent, or its end.
    pub(super) fn made(&self) {
        *self.0.lock() = Sending {
            last: Instant::now(),
            awaits_guest: false,
        };
    }

    /// The server takes more, and the guest has not said it yet.
    fn awaits_guest(&self) {
        self.0.lock().awaits_guest = true;
    }

    /// The deadline of a response that may take so long.
    pub(super) fn deadline(&self, first_byte: Duration) -> Instant {
        let sending = self.0.lock();
        let since = match sending.awaits_guest {
            true => Instant::now(),
            false => sending.last,
        };
        since + first_byte
    }
}

/// Whether an instance died. What it was sending then is not whole, though its pieces end like any other's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Death(Arc<AtomicBool>);

impl Death {
    /// To be said before the instance's store is dropped.
    pub(crate) fn happened(&self) {
        self.0.store(true, Relaxed);
    }
}

/// A request's body on its way out.
pub(super) struct Sent {
    pub(super) inner: WasiBody,
    pub(super) progress: Arc<Progress>,
    pub(super) death: Death,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            self.progress.awaits_guest();
            return Poll::Pending;
        };
        self.progress.made();
        Poll::Ready(match frame {
            None if self.death.0.load(Relaxed) => Some(Err(Error::ConnectionTerminated)),
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && !self.death.0.load(Relaxed)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body as it comes: given up when a guest that reads it waits too long for the next piece.
pub(super) struct Received {
    inner: WasiBody,
    between_bytes: Duration,
    /// Ends the wait that goes on.
    timer: Option<Pin<Box<Sleep>>>,
    /// Held until the body is over, as its connection is.
    permits: Option<Permits>,
}

impl Received {
    pub(super) fn new(inner: WasiBody, between_bytes: Duration, permits: Permits) -> Self {
        Self {
            inner,
            between_bytes,
            timer: None,
            permits: Some(permits),
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.timer = None;
            if !matches!(frame, Some(Ok(_))) {
                this.permits = None;
            }
            return Poll::Ready(frame);
        }
        let wait = this.between_bytes;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
        std::task::ready!(timer.as_mut().poll(cx));
        // Its connection is closed with it.
        this.inner = WasiBody::default();
        this.permits = None;
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
