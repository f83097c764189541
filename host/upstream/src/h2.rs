//! HTTP/2 to servers: a few connections to each server, many requests on each connection.

mod body;
mod driver;
mod exchange;

pub(super) use body::Http2Body;
pub(super) use exchange::{Http2Response, Http2SendError, NotTaken, StreamSender};

use super::{
    connect::{Connector, ServerStream},
    limits::RESPONSE_H2_LIST_BYTES,
};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, uri::Authority};
use parking_lot::Mutex;
use protoplex_http::{HeaderLines, field::is_hop_by_hop};
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

/// Most connections of one child to one server. One is enough for most uses; more of them spread the loss of a packet.
const CONNECTIONS_MAX: usize = 4;
/// Most requests at once on one connection, where the server allows as many: common servers allow 100 to 250.
const STREAMS_MAX: usize = 100;
/// Longest time that a connection stays without requests, as with HTTP/1.1.
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
/// Largest header list that is read: enough for any response within the limits of HTTP/1.1.
const HEADER_LIST_BYTES_MAX: u32 = RESPONSE_H2_LIST_BYTES as u32;

/// HTTP/2 connections of one child to one server.
#[derive(Default)]
pub(super) struct Http2Pool {
    open: Mutex<Vec<OpenConnection>>,
    /// Held while a connection is opened, so that a burst of requests does not open one each.
    opening: tokio::sync::Mutex<()>,
    /// The server chose HTTP/1.1 in the last handshake: each request then needs a connection.
    is_http1: AtomicBool,
}

struct OpenConnection {
    sender: SendRequest<Bytes>,
    settled: watch::Receiver<bool>,
    streams: Arc<AtomicUsize>,
    used: Instant,
}

/// Where a request to a server can go.
pub(super) enum Checkout {
    /// Permit of one stream on an HTTP/2 connection.
    Http2(StreamPermit),
    /// New connection of HTTP/1.1, which the server chose.
    Http1(ServerStream),
}

/// Permit of one stream on an HTTP/2 connection.
pub(super) struct StreamPermit {
    sender: SendRequest<Bytes>,
    settled: watch::Receiver<bool>,
    stream: OwnedGaugeGuard,
    /// The server takes an extended CONNECT, and that is what the request needs.
    pub(super) is_extended: bool,
}

impl Http2Pool {
    /// Returns a permit of a stream, on a connection that is open or is opened now.
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
        // The timeout spans the wait for whoever opens a connection now: else each of many requests would wait for all
        // before it, where the server swallows everything.
        timeout(
            connector.timeout(),
            self.opened(connector, authority, tasks),
        )
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits for the connection that another request opens now, or opens one.
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
        stream: ServerStream,
        budget: &Arc<WindowBudget>,
        tasks: &TaskTracker,
    ) -> io::Result<StreamPermit> {
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
        let open = OpenConnection {
            sender,
            settled,
            streams,
            used: Instant::now(),
        };
        let handle = open.place();
        self.open.lock().push(open);
        Ok(handle)
    }

    /// Takes a permit on the connection with the fewest requests. `None` where each has as many as it may and another
    /// connection can be opened.
    fn place(&self) -> Option<StreamPermit> {
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

    /// Closes connections that had no request for too long.
    pub(super) fn sweep(&self) {
        let idle =
            |one: &OpenConnection| one.streams.load(Relaxed) == 0 && one.used.elapsed() >= IDLE_MAX;
        self.open
            .lock()
            .retain_mut(|one| one.takes_requests() && !idle(one));
    }

    /// Number of open connections.
    pub(super) fn len(&self) -> usize {
        self.open.lock().len()
    }
}

impl OpenConnection {
    fn place(&self) -> StreamPermit {
        StreamPermit {
            sender: self.sender.clone(),
            settled: self.settled.clone(),
            stream: OwnedGaugeGuard::new(&self.streams),
            is_extended: false,
        }
    }

    /// Whether the connection stands, and the server sent no GOAWAY.
    fn takes_requests(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Err(_)))
    }
}

impl StreamPermit {
    /// Whether the server takes an extended CONNECT (RFC 8441). Waits for the server's settings.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn takes_connect(&mut self) -> bool {
        let settled = self.settled.wait_for(|settled| *settled).await.is_ok();
        settled && self.sender.is_extended_connect_protocol_enabled()
    }
}

/// Lines of a response's head that are passed on to the client.
pub(super) fn lines(headers: &HeaderMap) -> HeaderLines {
    let mut lines = HeaderLines::default();
    for (name, value) in headers {
        if !is_hop_by_hop(name.as_str()) && name != "x-request-id" {
            lines.push(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    lines
}
