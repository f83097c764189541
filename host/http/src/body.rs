//! The body of a request, pulled by whoever needs it.

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// Why a request's body ended early. The connection closes after any of them.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BodyError {
    /// The client went away, or its bytes did not come.
    #[error("the client's body stopped: {0}")]
    Incomplete(String),
    /// Chunk framing that cannot be trusted.
    #[error("the client's body is malformed: {0}")]
    Malformed(String),
    /// Slower than the limit.
    #[error("the client's body came too slowly")]
    TooSlow,
}

/// The body of a request. Dropping it is allowed at any time: the connection then drains or closes.
pub struct Body(Option<UnsyncBoxBody<Bytes, BodyError>>);

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self(None)
    }

    /// A stream of frames.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        Self(Some(body.boxed_unsync()))
    }

    /// Whether the head announced no body at all.
    pub fn is_absent(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_absent() {
            "Body(absent)"
        } else {
            "Body"
        })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}
