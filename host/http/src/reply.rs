//! The reply to a request, and when it is ready.

use crate::{Duplex, Lines, Switch};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::combinators::UnsyncBoxBody;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{net::TcpStream, time::Instant};

/// The answer of a service to a request head: now, or later.
pub enum Answer {
    /// Written in the same turn, without a task or an allocation for a future.
    Ready(Reply),
    /// Polled by the connection; dropped when the client goes away.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

/// A reply. The connection adds `date`, framing (`content-length`, `transfer-encoding`), `connection` and the
/// request id; framing and hop-by-hop headers in `headers` are dropped by it.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// In order; names may repeat.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// More headers, of an upstream: end to end ones only, without framing.
    pub lines: Lines,
    /// Whether `lines` has a `date`: an upstream's is kept.
    pub dated: bool,
    /// The body.
    pub body: ReplyBody,
    /// Close the connection after this reply.
    pub close: bool,
}

/// The body of a reply.
pub enum ReplyBody {
    /// None: `content-length: 0` where the status allows a body.
    Empty,
    /// All of it, from memory.
    Full(Bytes),
    /// The answer to HEAD (or a 304) where the length of the absent body is known.
    Absent {
        /// The value of `content-length`, where it is known.
        bytes: Option<u64>,
    },
    /// A stream. An error of it cuts the connection, since the status is gone already.
    Stream(UnsyncBoxBody<Bytes, StreamError>),
    /// The response of an upstream's connection.
    Relay(Box<dyn RelayBody>),
    /// With 101, or 2xx to a CONNECT: no body, but the server's end of a tunnel, to which the client's connection goes on.
    Tunnel(Tunnel),
    /// With 101, or 2xx to an extended CONNECT: no body, but the connection itself, for whoever takes it over.
    Switch(Switch),
}

/// The body of a response that a server behind is sending, so that it can be moved by better means than frames.
pub trait RelayBody: HttpBody<Data = Bytes, Error = StreamError> + Send + Unpin + 'static {
    /// Gets on with what is left of the request while the client takes nothing of the body: it may take none before it
    /// has said all it has to say.
    fn poll_request(&mut self, _cx: &mut Context<'_>) {}
    /// Ends the body with an error when the future is done.
    fn end_with(&mut self, cut: Pin<Box<dyn Future<Output = ()> + Send>>);
    /// The body as bytes of a socket, where it may be that.
    fn as_socket(&mut self) -> Option<&mut dyn SocketBody> {
        None
    }
}

/// A body whose rest may be nothing but the next bytes of a plain socket, to be moved without being read.
pub trait SocketBody: Send {
    /// The rest, if it is that by now.
    fn rest(&mut self) -> Option<SocketRest<'_>>;
    /// When a body that brings nothing is given up.
    fn idle_at(&self) -> Instant;
    /// Ready when the body has to end early, see [`RelayBody::end_with`].
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Bytes that are left of a body, and where they come from.
pub struct SocketRest<'a> {
    /// The server's socket.
    pub socket: &'a TcpStream,
    /// How many are left. Whoever takes some out of the socket counts them down.
    pub left: &'a mut u64,
}

/// A server's end of a tunnel. Its drop closes the connection.
pub struct Tunnel {
    /// The connection; no bytes of HTTP are read from it or written to it from here on.
    pub io: Box<dyn Duplex>,
    /// Bytes that the server sent already.
    pub early: Bytes,
}

/// The error of a streamed body; the connection logs it once.
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
    /// A reply without headers or body.
    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
            lines: Lines::default(),
            dated: false,
            body: ReplyBody::Empty,
            close: false,
        }
    }

    /// A short text.
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
