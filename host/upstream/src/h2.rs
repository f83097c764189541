//! HTTP/2 to servers: a few connections to each server, many requests on each connection.

mod body;
mod driver;
mod exchange;

pub(super) use body::Http2Body;
pub(super) use exchange::{Answered, SendError, Sending, Untaken};

use super::{
    connect::{Connector, Stream},
    limits::RESPONSE_H2_LIST_BYTES,
};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, uri::Authority};
use parking_lot::Mutex;
use protoplex_http::{Lines, field::is_hop_by_hop};
use protoplex_http2::{WindowBudget, WindowSizes, Windows};
use protoplex_net::OwnedGaugeGuard;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

/// Connections to one server, in each child. One is enough for most; more of them spread the loss of a packet.
const CONNECTIONS_MAX: usize = 4;
/// Requests at once on one connection, where the server allows as many: common servers allow 100 to 250.
const STREAMS_MAX: usize = 100;
/// A connection without requests is closed after this, as one of HTTP/1.1 is.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Flow control: bytes that a server may send of one response before we have passed them on, to begin with.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Flow control: largest window of a response that fills its window within a round trip. 160 MB/s at 100 ms.
const STREAM_WINDOW_BYTES_MAX: u32 = 16 << 20;
/// Flow control: bytes that a server may send of all responses on a connection before we have passed them on.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes that the windows of all of a child's connections to servers may have grown by at once. Beyond it they stay as
/// they are: downloads from far away are slower then.
const GROWTH_BYTES_MAX: usize = 64 << 20;
const WINDOWS: WindowSizes = WindowSizes {
    stream_bytes: STREAM_WINDOW_BYTES,
    stream_bytes_max: STREAM_WINDOW_BYTES_MAX,
    connection_bytes: CONNECTION_WINDOW_BYTES,
    growth_bytes_max: GROWTH_BYTES_MAX,
};
/// Header list that is read at all: enough for any response within the limits, which are those of HTTP/1.1.
const HEADER_LIST_BYTES_MAX: u32 = RESPONSE_H2_LIST_BYTES as u32;

/// The connections to one server.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<Vec<Open>>,
    /// OwnedGaugeGuard by who opens one, so that a burst does not open one for each of its requests.
    opening: tokio::sync::Mutex<()>,
    /// The server chose HTTP/1.1 when it was asked last: then each request needs a connection.
    is_http1: AtomicBool,
}

struct Open {
    sender: SendRequest<Bytes>,
    settled: watch::Receiver<bool>,
    streams: Arc<AtomicUsize>,
    used: Instant,
}

/// The outcome of asking for a stream to a server.
pub(super) enum Checkout {
    /// A place on a connection.
    Http2(Handle),
    /// A new connection: the server chose HTTP/1.1.
    Http1(Stream),
}

/// A place on a connection.
pub(super) struct Handle {
    sender: SendRequest<Bytes>,
    settled: watch::Receiver<bool>,
    stream: OwnedGaugeGuard,
}

impl Connections {
    /// A place for a request, on a connection that is open or is opened now.
    ///
    /// # Errors
    /// The server cannot be reached within the connector's time.
    pub(super) async fn checkout(
        &self,
        connector: &Connector,
        authority: &Authority,
        tasks: &TaskTracker,
    ) -> io::Result<Checkout> {
        if let Some(handle) = self.place() {
            return Ok(Checkout::Http2(handle));
        }
        // With the wait for who opens one now: else each of many would wait for all before it, where the server
        // swallows everything.
        timeout(
            connector.timeout(),
            self.opened(connector, authority, tasks),
        )
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// A place on the connection that somebody opens now, or on one of its own.
    async fn opened(
        &self,
        connector: &Connector,
        authority: &Authority,
        tasks: &TaskTracker,
    ) -> io::Result<Checkout> {
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
        let opened = self.open(stream, connector.windows(), tasks).await;
        opened.map(Checkout::Http2)
    }

    async fn open(
        &self,
        stream: Stream,
        budget: &Arc<WindowBudget>,
        tasks: &TaskTracker,
    ) -> io::Result<Handle> {
        let heard = Arc::default();
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(STREAMS_MAX)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES_MAX);
        let (sender, connection) = builder
            .handshake(stream.heard_by(&heard))
            .await
            .map_err(io::Error::other)?;
        let streams = Arc::default();
        let (settling, settled) = watch::channel(false);
        tasks.spawn(driver::run(
            connection,
            heard,
            Arc::clone(&streams),
            settling,
            Windows::new(WINDOWS, budget),
        ));
        let open = Open {
            sender,
            settled,
            streams,
            used: Instant::now(),
        };
        let handle = open.place();
        self.open.lock().push(open);
        Ok(handle)
    }

    /// On the connection with the fewest requests; none where each has as many as it may and another can be opened.
    fn place(&self) -> Option<Handle> {
        let mut open = self.open.lock();
        open.retain_mut(|one| one.takes_requests());
        let may_open = open.len() < CONNECTIONS_MAX;
        let least = open
            .iter_mut()
            .min_by_key(|one| one.streams.load(Relaxed))?;
        let most = least.sender.current_max_send_streams().min(STREAMS_MAX);
        if may_open && least.streams.load(Relaxed) >= most {
            return None;
        }
        least.used = Instant::now();
        Some(least.place())
    }

    /// Closes those without requests for too long.
    pub(super) fn sweep(&self) {
        let idle = |one: &Open| one.streams.load(Relaxed) == 0 && one.used.elapsed() >= IDLE_MAX;
        self.open
            .lock()
            .retain_mut(|one| one.takes_requests() && !idle(one));
    }

    /// Number of open connections.
    pub(super) fn len(&self) -> usize {
        self.open.lock().len()
    }
}

impl Open {
    fn place(&self) -> Handle {
        Handle {
            sender: self.sender.clone(),
            settled: self.settled.clone(),
            stream: OwnedGaugeGuard::new(&self.streams),
        }
    }

    /// The server has not said goodbye, and the connection stands.
    fn takes_requests(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Err(_)))
    }
}

impl Handle {
    /// Whether the server takes an extended CONNECT (RFC 8441). Its settings are waited for.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn takes_connect(&mut self) -> bool {
        let settled = self.settled.wait_for(|settled| *settled).await.is_ok();
        settled && self.sender.is_extended_connect_protocol_enabled()
    }
}

/// The end-to-end lines of a response's head.
pub(super) fn lines(headers: &HeaderMap) -> Lines {
    let bytes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    let mut lines = Lines::with_capacity(bytes.sum());
    for (name, value) in headers {
        if !is_hop_by_hop(name.as_str()) && name != "x-request-id" {
            lines.push(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    lines
}
