//! The body of a request on its way into a guest, and for how long the guest waits for it.

use super::track::RequestTrack;
use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame, SizeHint};
use protoplex_http::Body;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};
use wasmtime_wasi_http::Error;

/// Tells the request's track when the guest waits for the client. A wait ends when more has come, whether the guest
/// takes it or not: else one that asks and does other things would have no deadline.
pub(super) struct Upload {
    body: Body,
    arrival: Arc<Arrival>,
}

/// Woken by the connection when more of the body is there.
struct Arrival {
    track: Arc<RequestTrack>,
    guest: AtomicWaker,
}

impl Upload {
    pub(super) fn new(body: Body, track: &Arc<RequestTrack>) -> Self {
        let arrival = Arc::new(Arrival {
            track: Arc::clone(track),
            guest: AtomicWaker::new(),
        });
        Self { body, arrival }
    }
}

impl Wake for Arrival {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.track.client_came();
        self.guest.wake();
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.arrival.guest.register(cx.waker());
        // Before the poll: more may come while it lasts.
        self.arrival.track.awaits_client();
        let waker = Waker::from(Arc::clone(&self.arrival));
        let mut cx = Context::from_waker(&waker);
        let polled = Pin::new(&mut self.body).poll_frame(&mut cx);
        if polled.is_ready() {
            self.arrival.track.client_came();
        }
        polled.map_err(|_| Error::ConnectionTerminated)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.arrival.track.client_came();
    }
}
