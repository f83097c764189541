//! The body of a message that comes on a stream.

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use protoplex_http::trailers::{self, TrailersTooLarge};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Why a message's body ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The stream was reset, or its connection is gone.
    #[error("{0}")]
    Stream(#[from] h2::Error),
    /// The message has more trailers than it may have.
    #[error("{0}")]
    Trailers(#[from] TrailersTooLarge),
}

/// Body of a message that comes on a stream: data, then the trailers that may be some. What was taken out opens the
/// window again.
pub struct ReceivedBody {
    stream: RecvStream,
    /// Bytes left of the announced length, which `h2` enforces.
    left: Option<u64>,
    no_more_data: bool,
}

impl ReceivedBody {
    /// Takes the body of a message with these headers.
    pub fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let announced = headers.get(header::CONTENT_LENGTH);
        Self {
            left: announced.and_then(|length| length.to_str().ok()?.parse().ok()),
            stream,
            no_more_data: false,
        }
    }
}

impl HttpBody for ReceivedBody {
    type Data = Bytes;
    type Error = ReceiveError;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        if !self.no_more_data {
            if let Some(data) = ready!(self.stream.poll_data(cx)?) {
                // Fails for a stream that is over, where no window is needed.
                let _ = self.stream.flow_control().release_capacity(data.len());
                let bytes = data.len() as u64;
                self.left = self.left.map(|left| left.saturating_sub(bytes));
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            self.no_more_data = true;
        }
        let Some(mut trailers) = ready!(self.stream.poll_trailers(cx)?) else {
            return Poll::Ready(None);
        };
        let checked = trailers::check(&mut trailers);
        Poll::Ready(Some(
            checked
                .map(|()| Frame::trailers(trailers))
                .map_err(ReceiveError::from),
        ))
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
