//! A reply as HTTP/2 has it: framed by us, and checked against what it announces.

use super::{
    activity::{Activity, StreamActivity},
    guards::RequestGuards,
    request::UploadNotes,
};
use crate::{
    reply::{self, ReplyContext, ReplyFraming},
    silence::MutualSilence,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use protoplex_http::{
    HeaderLines, Interim, Reply, ReplyBody, StreamError, field::trimmed, trailers,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Most bytes that are handed over at once of a body that is all there: a stream's window.
const PIECE_BYTES: usize = 64 << 10;

/// A response that the service itself makes while the client goes on with its request.
pub(super) struct Conversation {
    pub(super) silence: MutualSilence,
    pub(super) upload: Arc<UploadNotes>,
}

impl Conversation {
    /// Whether both sides have been silent for too long, where this one says nothing now.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.silence.poll_over(self.upload.awaited(), cx)
    }
}

/// Splits a reply into its head and its body. `stream` and `held` live as long as the body.
pub(super) fn split(
    mut reply: Reply,
    asked: &ReplyContext,
    stream: StreamActivity,
    held: RequestGuards,
    conversation: Option<Conversation>,
) -> (Response<()>, ReplyFrames) {
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
    let body = ReplyFrames {
        body,
        left,
        stream,
        held,
        conversation,
        fell_silent: false,
    };
    (head, body)
}

/// Makes the response to a CONNECT that is agreed on: no length, which would be one of a body, and nothing of
/// HTTP/1.1's way to agree.
pub(super) fn switched(mut reply: Reply, asked: &ReplyContext) -> Response<()> {
    reply.status = StatusCode::OK;
    let mut head = head(reply, asked);
    head.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
    head
}

fn head(reply: Reply, asked: &ReplyContext) -> Response<()> {
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

/// Makes an interim response.
pub(super) fn interim(interim: &Interim) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = interim.status;
    append(head.headers_mut(), &interim.lines);
    head
}

fn append(headers: &mut HeaderMap, lines: &HeaderLines) {
    for (name, value) in lines.iter() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
}

/// Body of a reply. An error of it resets the stream.
pub(super) struct ReplyFrames {
    body: ReplyBody,
    /// Bytes left of the announced length.
    left: Option<u64>,
    stream: StreamActivity,
    held: RequestGuards,
    conversation: Option<Conversation>,
    /// Whether the response was cut because client and app were both silent for too long.
    fell_silent: bool,
}

impl ReplyFrames {
    /// Activity of the connection that the reply goes out on.
    pub(super) fn activity(&self) -> &Activity {
        self.stream.connection()
    }

    /// Whether the response was cut because nobody said anything any more.
    pub(super) fn fell_silent(&self) -> bool {
        self.fell_silent
    }

    /// Sends more of the request while the client takes nothing of the reply.
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
                // Handed over in pieces, so that the next is asked for when the client has taken this one.
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

impl HttpBody for ReplyFrames {
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
                tracing::warn!(%error, "a response was cut in its body; its HTTP/2 stream is reset");
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
        // Nothing: the length is announced in the head, where that is allowed.
        SizeHint::default()
    }
}
