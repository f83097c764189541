//! The body of an app's response: counted against its limit, and never looking whole when its instance died.

use super::joint::OpenBody;
use crate::HandlerError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

pub(super) struct Answer {
    /// Gone with the last of it.
    open: Option<OpenBody>,
    /// Bytes that have come.
    bytes: u64,
    /// The most that may come; `None` is no limit.
    bytes_max: Option<u64>,
}

impl Answer {
    /// `bytes_max` is `response_bytes_max`; 0 is no limit.
    pub(super) fn new(open: OpenBody, bytes_max: u64) -> Self {
        Self {
            open: Some(open),
            bytes: 0,
            bytes_max: (bytes_max > 0).then_some(bytes_max),
        }
    }

    /// Nothing comes any more.
    pub(super) fn has_ended(&self) -> bool {
        self.open.is_none()
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
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HandlerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandlerError>>> {
        let Some(open) = &mut self.open else {
            return Poll::Ready(None);
        };
        let frame = match std::task::ready!(Pin::new(&mut open.content).poll_frame(cx)) {
            Some(Ok(frame)) => Some(self.checked(frame)),
            // The instance's death, or else what the guest said.
            Some(Err(error)) => {
                let cause = open.cause();
                Some(Err(
                    cause.unwrap_or_else(|| HandlerError::Guest(error.to_string()))
                ))
            }
            // It may end because its instance died, not because it is whole.
            None => open.cause().map(Err),
        };
        if !matches!(frame, Some(Ok(_))) {
            self.open = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // A death would be overlooked: the end has to be read.
        false
    }

    fn size_hint(&self) -> SizeHint {
        let open = self.open.as_ref();
        open.map_or_else(|| SizeHint::with_exact(0), |open| open.content.size_hint())
    }
}
