//! Task of one HTTP/2 connection: reads and writes for all streams, and finds out a server that is gone.

use crate::connect::ServerStream;
use bytes::Bytes;
use h2::client::Connection;
use protoplex_http2::{KeepAlive, Windows};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::watch;

/// Longest silence on a connection with requests, before the server is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Time for the answer to a ping. A server in the same network needs milliseconds.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of pings while the server answers them and sends nothing else. gRPC's servers end a connection with
/// `too_many_pings` when pings come more often than every five minutes while they have nothing to say.
const QUIET_PING_INTERVAL: Duration = Duration::from_secs(360);

struct Driver {
    connection: Connection<ServerStream, Bytes>,
    keep_alive: Option<KeepAlive>,
    windows: Windows,
    /// Bytes that came on the connection.
    heard: Arc<AtomicU64>,
    streams: Arc<AtomicUsize>,
    /// Becomes `true` once the server's settings are known.
    settling: watch::Sender<bool>,
}

/// Drives a connection until nobody holds it any more, or it ends by itself. `heard` counts the bytes that come on it,
/// `streams` the requests.
pub(super) async fn run(
    mut connection: Connection<ServerStream, Bytes>,
    heard: Arc<AtomicU64>,
    streams: Arc<AtomicUsize>,
    settling: watch::Sender<bool>,
    windows: Windows,
) {
    let pings = connection.ping_pong();
    let keep_alive = pings.map(|pings| {
        KeepAlive::greeting(pings, Arc::clone(&heard), PING_INTERVAL, PING_TIMEOUT)
            .seldom_in_quiet(QUIET_PING_INTERVAL)
    });
    let mut driver = Driver {
        connection,
        keep_alive,
        windows,
        heard,
        streams,
        settling,
    };
    match poll_fn(|cx| driver.poll(cx)).await {
        Ok(()) => {}
        Err(error) => {
            tracing::debug!(%error, "an HTTP/2 connection to a server ended with an error")
        }
    }
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let Poll::Ready(ended) = Pin::new(&mut self.connection).poll(cx) {
            return Poll::Ready(ended);
        }
        let Some(keep_alive) = &mut self.keep_alive else {
            return Poll::Pending;
        };
        // A server's first frame is its settings (RFC 9113, section 3.4): the answer to a ping comes after them.
        if !*self.settling.borrow() && keep_alive.poll_answered(cx).is_ready() {
            self.settling.send_replace(true);
        }
        let is_used = self.streams.load(Relaxed) > 0;
        if *self.settling.borrow() {
            let heard = self.heard.load(Relaxed);
            let connection = &mut self.connection;
            self.windows
                .poll(heard, is_used, connection, keep_alive, cx);
        }
        if !is_used {
            keep_alive.excuse();
            return Poll::Pending;
        }
        keep_alive
            .poll_gone(cx)
            .map(|()| Err(h2::Reason::NO_ERROR.into()))
    }
}
