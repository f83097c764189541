//! Body of a request, pulled by whoever needs it.

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
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
    /// The client was slower than its limit allows.
    #[error("the client's body came too slowly")]
    TooSlow,
}

/// Pace at which a client has to bring a body that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum BodyPace {
    /// The client owes the body: nothing else happens before it is there.
    Owed,
    /// The body is one side of a conversation: whoever listens is not held up by a silence, and may speak next.
    TwoWay,
    /// The response has begun. Whoever sends it says how long silence may last.
    Answered,
}

/// Pace of one body, shared by its connection and whoever takes the body.
#[derive(Clone, Debug, Default)]
pub struct SharedPace(Arc<AtomicU8>);

impl SharedPace {
    /// Pace that holds now.
    pub fn pace(&self) -> BodyPace {
        match self.0.load(Relaxed) {
            0 => BodyPace::Owed,
            1 => BodyPace::TwoWay,
            _ => BodyPace::Answered,
        }
    }

    /// Sets a pace, unless a later one holds already.
    pub fn advance(&self, pace: BodyPace) {
        self.0.fetch_max(pace as u8, Relaxed);
    }
}

/// Body of a request. Dropping it is allowed at any time: the connection then drains or closes.
pub struct Body {
    frames: Option<UnsyncBoxBody<Bytes, BodyError>>,
    /// `None` where the client owes the body to its end, or nobody measures.
    pacing: Option<SharedPace>,
}

impl Body {
    /// Makes the body of a request that has none.
    pub fn empty() -> Self {
        Self {
            frames: None,
            pacing: None,
        }
    }

    /// Makes a body of a stream of frames.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        Self {
            frames: Some(body.boxed_unsync()),
            pacing: None,
        }
    }

    /// Makes a body of a stream of frames whose client has to keep a pace.
    pub fn paced<B>(body: B, pacing: SharedPace) -> Self
    where
        B: HttpBody<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        Self {
            pacing: Some(pacing),
            ..Self::new(body)
        }
    }

    /// Whether the client owes the body to its end: its length is known.
    pub fn is_owed(&self) -> bool {
        self.pacing.is_none()
    }

    /// Tells the connection what the client owes from now on.
    pub fn advance(&self, pace: BodyPace) {
        if let Some(pacing) = &self.pacing {
            pacing.advance(pace);
        }
    }

    /// Returns this body with its trailers passed through `edit`.
    #[must_use]
    pub fn with_trailers(
        mut self,
        edit: impl FnMut(&mut HeaderMap) + Send + Unpin + 'static,
    ) -> Self {
        self.frames = self
            .frames
            .map(|frames| EditedTrailers { frames, edit }.boxed_unsync());
        self
    }

    /// Whether the head announced no body at all.
    pub fn is_absent(&self) -> bool {
        self.frames.is_none()
    }
}

/// Frames whose trailers are edited. Unlike `map_frame`, this knows the length that the frames have.
struct EditedTrailers<F> {
    frames: UnsyncBoxBody<Bytes, BodyError>,
    edit: F,
}

impl<F: FnMut(&mut HeaderMap) + Unpin> HttpBody for EditedTrailers<F> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        let mut polled = Pin::new(&mut body.frames).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            (body.edit)(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.frames.size_hint()
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
        match &mut self.frames {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.frames
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}
