//! A request body of known length that tells how far it is.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

/// Bytes that are handed over at once: a step of the progress.
const CHUNK_BYTES: usize = 64 << 10;

pub(super) struct UploadBody<F> {
    left: Bytes,
    sent_bytes: u64,
    progress: F,
}

impl<F: FnMut(u64) + Send + 'static> UploadBody<F> {
    pub(super) fn new(content: Bytes, progress: F) -> Self {
        Self {
            left: content,
            sent_bytes: 0,
            progress,
        }
    }
}

/// Moving an upload is harmless: nothing in it is pinned.
impl<F> Unpin for UploadBody<F> {}

impl<F: FnMut(u64)> Body for UploadBody<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.left.is_empty() {
            return Poll::Ready(None);
        }
        let chunk = this.left.split_to(CHUNK_BYTES.min(this.left.len()));
        this.sent_bytes += chunk.len() as u64;
        (this.progress)(this.sent_bytes);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
