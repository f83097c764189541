//! The body of an app's response: counted against its limit, and holding its place until it ends.

use super::worker::RequestTrack;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi_http::{Error, WasiBody};

pub(super) struct GuardedBody {
    inner: WasiBody,
    /// Bytes that may still come; `None` is no limit.
    left: Option<u64>,
    track: Arc<RequestTrack>,
    _place: OwnedSemaphorePermit,
}

impl GuardedBody {
    /// `max` is `response_bytes_max`; 0 is no limit.
    pub(super) fn new(
        inner: WasiBody,
        max: u64,
        track: Arc<RequestTrack>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            inner,
            left: (max > 0).then_some(max),
            track,
            _place: place,
        }
    }
}

impl Body for GuardedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let (Some(left), Some(Ok(frame))) = (&mut self.left, &frame)
            && let Some(data) = frame.data_ref()
        {
            match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => {
                    return Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(
                        data.len() as u64
                    )))));
                }
            }
        }
        match (frame, self.track.cause()) {
            // It ends because its instance died, not because it is whole.
            (None, Some(cause)) => {
                Poll::Ready(Some(Err(Error::InternalError(Some(cause.to_string())))))
            }
            (frame, _) => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
