//! The body of an app's response: counted against its limit, and never looking whole when its instance died.

use super::{joint::Joint, track::RequestTrack};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use wasmtime_wasi_http::{Error, WasiBody};

pub(super) struct Answer {
    inner: WasiBody,
    /// Bytes that may still come; `None` is no limit.
    left: Option<u64>,
    track: Arc<RequestTrack>,
    joint: Arc<Joint>,
    ended: bool,
}

impl Answer {
    /// `bytes_max` is `response_bytes_max`; 0 is no limit.
    pub(super) fn new(
        inner: WasiBody,
        bytes_max: u64,
        track: Arc<RequestTrack>,
        joint: Arc<Joint>,
    ) -> Self {
        joint.body_begins();
        Self {
            inner,
            left: (bytes_max > 0).then_some(bytes_max),
            track,
            joint,
            ended: false,
        }
    }

    /// Nothing comes any more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            // What the guest still writes has no reader.
            self.inner = WasiBody::default();
            self.joint.body_ends(&self.track);
        }
    }

    fn checked(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Error> {
        if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
            let bytes = data.len() as u64;
            *left = left
                .checked_sub(bytes)
                .ok_or(Error::HttpResponseBodySize(Some(bytes)))?;
        }
        Ok(frame)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(frame) => Some(frame.and_then(|frame| self.checked(frame))),
            // It ends because its instance died, not because it is whole.
            None => {
                (self.track.cause()).map(|cause| Err(Error::InternalError(Some(cause.to_string()))))
            }
        };
        if !matches!(frame, Some(Ok(_))) {
            self.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // A death would be overlooked: the end has to be read.
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.end();
    }
}
