//! The body of an app's response: counted against its limit, and never looking whole when its instance died.

use super::{joint::Joint, track::RequestTrack};
use crate::HandlerError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use wasmtime_wasi_http::WasiBody;

pub(super) struct Answer {
    inner: WasiBody,
    /// Bytes that have come.
    bytes: u64,
    /// The most that may come; `None` is no limit.
    bytes_max: Option<u64>,
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
            bytes: 0,
            bytes_max: (bytes_max > 0).then_some(bytes_max),
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

    fn checked(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, HandlerError> {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.bytes = self.bytes.saturating_add(bytes);
        match self.bytes_max {
            Some(max) if self.bytes > max => Err(HandlerError::ResponseTooLarge {
                bytes: self.bytes,
                max,
            }),
            _ => Ok(frame),
        }
    }

    /// Cause that ended the body: the instance's death, or else what the guest said.
    fn fault(&self, said: impl FnOnce() -> Option<HandlerError>) -> Option<HandlerError> {
        self.track.cause().or_else(said)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HandlerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandlerError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => Some(self.checked(frame)),
            Some(Err(error)) => {
                let said = || Some(HandlerError::Guest(error.to_string()));
                self.fault(said).map(Err)
            }
            // It may end because its instance died, not because it is whole.
            None => self.fault(|| None).map(Err),
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
