//! HTTP/2 to servers, by hyper's client: a few connections to each server, many requests on each connection.

mod body;

pub(super) use body::Http2Body;

use super::connect::{Connector, Stream};
use crate::{http2::Tracked, server::Held};
use http::{Request, Response, uri::Authority};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, Connection, SendRequest},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use protoplex_http::Body;
use std::{
    error::Error,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Connections to one server, in each child. One is enough for most; more of them spread the loss of a packet.
const CONNECTIONS_MAX: usize = 4;
/// Requests at once on one connection, where the server allows as many: common servers allow 100 to 250.
const STREAMS_MAX: usize = 100;
/// A connection with requests on it is asked whether it lives, and must answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without requests is closed after this, as one of HTTP/1.1 is.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Flow control: what a server may send before we have passed it on; one response, and all of them.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// A response's head, as in HTTP/1.1.
const HEAD_BYTES_MAX: u32 = super::response::HEAD_BYTES_MAX as u32;

/// The connections to one server.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<Vec<Open>>,
    /// Held by who opens one, so that a burst does not open one for each of its requests.
    opening: tokio::sync::Mutex<()>,
    /// The server chose HTTP/1.1 when it was asked last: then each request needs a connection.
    is_http1: AtomicBool,
}

type Driven = Connection<TokioIo<Stream>, Body, Tracked>;

struct Open {
    sender: SendRequest<Body>,
    streams: Arc<AtomicUsize>,
    /// Knows how many the server allows. Its task polls it, until it is over.
    connection: Arc<Mutex<Option<Driven>>>,
    used: Instant,
}

/// What can be had of a server.
pub(super) enum Checkout {
    /// A place on a connection.
    Http2(Handle),
    /// A new connection: the server chose HTTP/1.1.
    Http1(Stream),
}

/// A place on a connection.
pub(super) struct Handle {
    sender: SendRequest<Body>,
    stream: Held,
}

/// Why there is no response.
pub(super) struct SendError {
    pub(super) cause: String,
    /// The request, where nothing of it was sent.
    pub(super) unsent: Option<Box<Request<Body>>>,
    /// The server says that it did not act on it (RFC 9113, section 8.7).
    pub(super) refused: bool,
}

impl Connections {
    /// A place for a request, on a connection that is open or is opened now.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub(super) async fn checkout(
        &self,
        connector: &Connector,
        authority: &Authority,
        tasks: &TaskTracker,
    ) -> io::Result<Checkout> {
        if let Some(handle) = self.place() {
            return Ok(Checkout::Http2(handle));
        }
        let opening = if self.is_http1.load(Relaxed) {
            None
        } else {
            Some(self.opening.lock().await)
        };
        if opening.is_some()
            && let Some(handle) = self.place()
        {
            return Ok(Checkout::Http2(handle));
        }
        let stream = connector.connect(authority, None).await?;
        let is_http2 = connector.is_http2(&stream);
        self.is_http1.store(!is_http2, Relaxed);
        if !is_http2 {
            return Ok(Checkout::Http1(stream));
        }
        self.open(stream, tasks).await.map(Checkout::Http2)
    }

    async fn open(&self, stream: Stream, tasks: &TaskTracker) -> io::Result<Handle> {
        let mut builder = Builder::new(Tracked(tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX);
        let (sender, connection) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let connection = Arc::new(Mutex::new(Some(connection)));
        let driven = Arc::clone(&connection);
        tasks.spawn(async move {
            let ended = poll_fn(|cx| match &mut *driven.lock() {
                Some(connection) => Pin::new(connection).poll(cx),
                None => Poll::Ready(Ok(())),
            });
            let ended = ended.await;
            // Senders hear of it by this.
            driven.lock().take();
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP/2 connection to a server ended badly");
            }
        });
        let streams = Arc::default();
        let handle = Handle {
            stream: Held::new(&streams),
            sender: sender.clone(),
        };
        let used = Instant::now();
        self.open.lock().push(Open {
            sender,
            streams,
            connection,
            used,
        });
        Ok(handle)
    }

    /// On the connection with the fewest requests; none where each has as many as it may and another can be opened.
    fn place(&self) -> Option<Handle> {
        let mut open = self.open.lock();
        open.retain(|one| !one.sender.is_closed());
        let may_open = open.len() < CONNECTIONS_MAX;
        let least = open
            .iter_mut()
            .min_by_key(|one| one.streams.load(Relaxed))?;
        let allowed = least.connection.lock();
        let allowed = allowed
            .as_ref()
            .map_or(0, Connection::current_max_send_streams);
        let most = allowed.min(STREAMS_MAX);
        if may_open && least.streams.load(Relaxed) >= most {
            return None;
        }
        least.used = Instant::now();
        Some(Handle {
            sender: least.sender.clone(),
            stream: Held::new(&least.streams),
        })
    }

    /// Closes those without requests for too long.
    pub(super) fn sweep(&self) {
        let idle = |one: &Open| one.streams.load(Relaxed) == 0 && one.used.elapsed() >= IDLE_MAX;
        self.open
            .lock()
            .retain(|one| !one.sender.is_closed() && !idle(one));
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.open.lock().len()
    }
}

impl Handle {
    /// Sends a request and waits for the head of its response. What comes with it counts the stream until its body
    /// is over.
    ///
    /// # Errors
    /// There is no response.
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream; the connection goes on.
    pub(super) async fn send(
        mut self,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Held), SendError> {
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok((response, self.stream)),
            Err(mut failed) => {
                let unsent = failed.take_message().map(Box::new);
                let error = failed.into_error();
                Err(SendError {
                    cause: cause(&error),
                    unsent,
                    refused: is_refused(&error),
                })
            }
        }
    }
}

/// The stream was refused, or came after the last one that the server says it takes.
fn is_refused(error: &hyper::Error) -> bool {
    let Some(error) = error.source().and_then(|e| e.downcast_ref::<h2::Error>()) else {
        return false;
    };
    let reason = error.reason();
    let gone = error.is_go_away() && error.is_remote() && reason == Some(h2::Reason::NO_ERROR);
    gone || (error.is_remote() && reason == Some(h2::Reason::REFUSED_STREAM))
}

/// With what hyper keeps back.
fn cause(error: &hyper::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
