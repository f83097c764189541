//! A reply as HTTP/2 has it: framed by us, checked against what it announces.

use super::{
    activity::{Activity, StreamActivity},
    guards::RequestGuards,
    request::Upload,
};
use crate::{
    reply::{self, Asked, ReplyFraming},
    silence::Silence,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use protoplex_http::{Interim, Lines, Reply, ReplyBody, StreamError, field::trimmed, trailers};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Bytes that are handed over at once of a body that is all there: a stream's window.
const PIECE_BYTES: usize = 64 << 10;

/// A response that the service itself makes while the client goes on with its request.
pub(super) struct Conversation {
    pub(super) silence: Silence,
    pub(super) upload: Arc<Upload>,
}

impl Conversation {
    /// Whether both sides have been silent for too long, where this one says nothing now.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.silence.poll_over(self.upload.awaited(), cx)
    }
}

/// Head and body. `stream` and `held` live as long as the body.
pub(super) fn split(
    mut reply: Reply,
    asked: &Asked,
    stream: StreamActivity,
    held: RequestGuards,
    conversation: Option<Conversation>,
) -> (Response<()>, Out) {
    let (framing, length) = reply::framing(&reply, asked);
    let mut body = std::mem::replace(&mut reply.body, ReplyBody::Empty);
    if framing == ReplyFraming::None {
        body = ReplyBody::Empty;
    }
    let left = match framing {
        ReplyFraming::Length(bytes) => Some(bytes),
        _ => None,
    };
    let mut head = head(reply, asked);
    if let Some(length) = length {
        let length = HeaderValue::from(length);
        head.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    let body = Out {
        body,
        left,
        stream,
        held,
        conversation,
        fell_silent: false,
    };
    (head, body)
}

/// The answer to a CONNECT that is agreed on: no length, which would be one of a body, and nothing of
/// HTTP/1.1's way to agree.
pub(super) fn switched(mut reply: Reply, asked: &Asked) -> Response<()> {
    reply.status = StatusCode::OK;
    let mut head = head(reply, asked);
    head.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
    head
}

fn head(reply: Reply, asked: &Asked) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = reply.status;
    let headers = head.headers_mut();
    for (name, value) in reply.headers {
        if !reply::is_ours(&name) {
            headers.append(name, trimmed(value));
        }
    }
    append(headers, &reply.lines);
    if !reply.dated {
        headers.insert(header::DATE, reply::date());
    }
    if let Ok(id) = HeaderValue::from_bytes(&asked.id) {
        headers.insert("x-request-id", id);
    }
    head
}

/// An interim answer.
pub(super) fn interim(interim: &Interim) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = interim.status;
    append(head.headers_mut(), &interim.lines);
    head
}

fn append(headers: &mut HeaderMap, lines: &Lines) {
    for (name, value) in lines.iter() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
}

/// A reply's body. An error of it resets the stream.
pub(super) struct Out {
    body: ReplyBody,
    /// Bytes left of the announced length.
    left: Option<u64>,
    stream: StreamActivity,
    held: RequestGuards,
    conversation: Option<Conversation>,
    /// The response was cut because client and app were both silent for too long.
    fell_silent: bool,
}

impl Out {
    /// The connection that it goes out on.
    pub(super) fn activity(&self) -> &Activity {
        self.stream.connection()
    }

    /// Whether it was cut because nobody said anything any more.
    pub(super) fn fell_silent(&self) -> bool {
        self.fell_silent
    }

    /// Gets on with what is left of the request while the client takes nothing of this.
    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>) {
        if let ReplyBody::Relay(body) = &mut self.body {
            body.poll_request(cx);
        }
    }

    fn heard(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let polled = self.next(cx);
        let Some(conversation) = &mut self.conversation else {
            return polled;
        };
        if polled.is_ready() {
            conversation.silence.spoke();
            return polled;
        }
        conversation.poll_over(cx).map(|()| {
            self.fell_silent = true;
            Some(Err("client and app were silent for too long".into()))
        })
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match &mut self.body {
            ReplyBody::Empty
            | ReplyBody::Absent { .. }
            | ReplyBody::Tunnel(_)
            | ReplyBody::Switch(_) => Poll::Ready(None),
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
        let polled = self.heard(cx);
        self.stream.moved(polled.is_pending());
        let counted = polled.map(|frame| {
            let mut frame = frame.transpose()?;
            self.count(frame.as_ref())?;
            if let Some(trailers) = frame.as_mut().and_then(Frame::trailers_mut) {
                trailers::check(trailers)?;
            }
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
            ReplyBody::Empty
            | ReplyBody::Absent { .. }
            | ReplyBody::Tunnel(_)
            | ReplyBody::Switch(_) => true,
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
