//! The reply to a request, and when it is ready.

use crate::{HeaderLines, Switch};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::combinators::UnsyncBoxBody;
use protoplex_net::{Duplex, Socket};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tracing::{Instrument, Span};

/// What a service returns for a request's head: a reply, or its future.
pub enum Answer {
    /// A reply that is written in the same turn, without a task or an allocation for a future.
    Ready(Reply),
    /// A reply that is not there yet. The connection polls the future, and drops it when the client goes away.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Answer {
    /// Makes an answer inside a span, in which its future stays. Costs nothing where the log leaves the span out.
    pub fn within(span: Span, make: impl FnOnce() -> Self) -> Self {
        if span.is_disabled() {
            return make();
        }
        match span.in_scope(make) {
            Self::Later(reply) => Self::Later(Box::pin(reply.instrument(span))),
            ready => ready,
        }
    }
}

/// A reply. The connection adds `date`, framing (`content-length`, `transfer-encoding`), `connection` and the request
/// id; it drops framing and hop-by-hop headers in `headers`.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Headers in order; names may repeat.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Headers of an upstream's response: end-to-end ones only, without framing.
    pub lines: HeaderLines,
    /// Whether `lines` has a `date`: an upstream's is kept.
    pub dated: bool,
    /// The body.
    pub body: ReplyBody,
    /// Whether to close the connection after this reply.
    pub close: bool,
}

/// The body of a reply.
pub enum ReplyBody {
    /// No body: `content-length: 0` where the status allows one.
    Empty,
    /// A body from memory.
    Full(Bytes),
    /// No body, but the length of the one that is absent: for HEAD, or a 304.
    Absent {
        /// The value of `content-length`, where it is known.
        bytes: Option<u64>,
    },
    /// A stream of frames. An error of it cuts the connection, since the status is gone already.
    Stream(UnsyncBoxBody<Bytes, StreamError>),
    /// Body of an upstream's response.
    Relay(Box<dyn RelayBody>),
    /// No body, but the server's end of a tunnel, to which the client's connection goes on. With 101, or 2xx to a
    /// CONNECT.
    Tunnel(Tunnel),
    /// No body, but the connection itself, for whoever takes it over. With 101, or 2xx to an extended CONNECT.
    Switch(Switch),
}

/// Body of a response that a server behind is sending, so that it can be moved by better means than frames.
pub trait RelayBody: HttpBody<Data = Bytes, Error = StreamError> + Send + Unpin + 'static {
    /// Sends more of the request while the client takes nothing of the body: the client may take none before it has
    /// said all it has to say.
    fn poll_request(&mut self, _cx: &mut Context<'_>) {}
    /// Ends the body with an error when the future is done.
    fn end_with(&mut self, cut: Pin<Box<dyn Future<Output = ()> + Send>>);
    /// The body as bytes of a socket, if it can be that.
    fn as_socket(&mut self) -> Option<&mut dyn SocketBody> {
        None
    }
}

/// A body whose rest may be nothing but the next bytes of a plain socket, to be moved without being read.
pub trait SocketBody: Send {
    /// Rest of the body, if it is nothing but bytes of a socket by now.
    fn rest(&mut self) -> Option<SocketRest<'_>>;
    /// Deadline of a body that brings nothing from now on.
    fn idle_at(&self) -> Instant;
    /// Ready when the body has to end early, see [`RelayBody::end_with`].
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Rest of a body, and the socket that it comes from.
pub struct SocketRest<'a> {
    /// Socket to the server.
    pub socket: &'a Socket,
    /// Bytes that are left. Whoever takes some out of the socket counts them down.
    pub left: &'a mut u64,
}

/// A server's end of a tunnel. Its drop closes the connection.
pub struct Tunnel {
    /// The connection; no bytes of HTTP are read from it or written to it from here on.
    pub io: Box<dyn Duplex>,
    /// Bytes that the server sent already.
    pub early: Bytes,
}

/// Error of a streamed body; the connection logs it once.
pub type StreamError = Box<dyn std::error::Error + Send + Sync>;

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({})", bytes.len()),
            Self::Absent { bytes } => write!(f, "Absent({bytes:?})"),
            Self::Stream(_) => f.write_str("Stream"),
            Self::Relay(_) => f.write_str("Relay"),
            Self::Tunnel(_) => f.write_str("Tunnel"),
            Self::Switch(_) => f.write_str("Switch"),
        }
    }
}

impl Reply {
    /// Makes a reply without headers or body.
    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
            lines: HeaderLines::default(),
            dated: false,
            body: ReplyBody::Empty,
            close: false,
        }
    }

    /// Makes a reply of a short text.
    pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self::empty(status)
            .with(
                http::header::CONTENT_TYPE,
                HeaderValue::from_static("text/plain; charset=utf-8"),
            )
            .with_body(text)
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sets a body that is all there.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = ReplyBody::Full(body.into());
        self
    }
}
