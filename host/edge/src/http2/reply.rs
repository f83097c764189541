//! A reply for hyper's HTTP/2: framed by us, checked against what it announces.

use super::{Until, activity::Stream};
use crate::http1::respond::{self, Asked, Framing};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use protoplex_http::{Reply, ReplyBody, StreamError};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// Of a body that is all there, handed over at once: a stream's window.
const PIECE_BYTES: usize = 64 << 10;

/// The response to send. `stream` and `held` live as long as its body.
pub(super) fn response(reply: Reply, asked: &Asked, stream: Stream, held: Until) -> Response<Out> {
    let (framing, length) = respond::framing(&reply, asked);
    let body = if framing == Framing::None {
        ReplyBody::Empty
    } else {
        reply.body
    };
    let left = match framing {
        Framing::Length(bytes) => Some(bytes),
        _ => None,
    };
    let mut response = Response::new(Out {
        body,
        left,
        stream,
        held,
    });
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    for (name, value) in reply.headers {
        if !respond::is_ours(&name) {
            headers.append(name, value);
        }
    }
    for (name, value) in reply.lines.iter() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Ok(id) = HeaderValue::from_bytes(&asked.id) {
        headers.insert("x-request-id", id);
    }
    response
}

/// The answer to a stream that is switched: no body, and no length, which would be one.
pub(super) fn switched(reply: Reply, asked: &Asked, stream: Stream, held: Until) -> Response<Out> {
    let mut response = response(reply, asked, stream, held);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response
}

/// A reply's body, for hyper. An error of it resets the stream.
pub(super) struct Out {
    body: ReplyBody,
    /// Of what was announced.
    left: Option<u64>,
    stream: Stream,
    held: Until,
}

impl Out {
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match &mut self.body {
            ReplyBody::Empty | ReplyBody::Absent { .. } | ReplyBody::Switch(_) => Poll::Ready(None),
            ReplyBody::Full(bytes) => {
                // In pieces, so that the next is asked for when the client has taken this one.
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
            }
            ReplyBody::Relay(body) => Pin::new(body).poll_frame(cx),
            ReplyBody::Stream(body) => {
                catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx)))
                    .unwrap_or_else(|_| Poll::Ready(Some(Err("the reply's body panicked".into()))))
            }
        }
    }

    /// Counts a frame, or the end, against what was announced.
    fn count(&mut self, frame: Option<&Frame<Bytes>>) -> Result<(), StreamError> {
        if let (Some(entry), Some(frame)) = (&mut self.held.entry, frame) {
            entry.add_bytes(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        let Some(left) = &mut self.left else {
            return Ok(());
        };
        let bytes = match frame {
            Some(frame) => frame.data_ref().map_or(0, |data| data.len() as u64),
            None if *left > 0 => return Err("it is shorter than it announced".into()),
            None => 0,
        };
        *left = left
            .checked_sub(bytes)
            .ok_or("it is longer than it announced")?;
        Ok(())
    }
}

impl HttpBody for Out {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let polled = self.next(cx);
        self.stream.moved(polled.is_pending());
        let counted = polled.map(|frame| {
            let frame = frame.transpose()?;
            self.count(frame.as_ref())?;
            Ok(frame)
        });
        counted.map(|counted: Result<_, StreamError>| {
            if let Err(error) = &counted {
                tracing::warn!(%error, "a reply was cut in its body");
            }
            counted.transpose()
        })
    }

    fn is_end_stream(&self) -> bool {
        if self.left.is_some_and(|left| left > 0) {
            return false;
        }
        match &self.body {
            ReplyBody::Empty | ReplyBody::Absent { .. } | ReplyBody::Switch(_) => true,
            ReplyBody::Full(bytes) => bytes.is_empty(),
            ReplyBody::Stream(body) => body.is_end_stream(),
            ReplyBody::Relay(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        // The length is announced in the head, where that is allowed.
        SizeHint::default()
    }
}
