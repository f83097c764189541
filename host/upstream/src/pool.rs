//! HTTP/1.1 connections to one server that wait for the next request. A pool belongs to everything that makes
//! connections different: the address, what is spoken, how TLS is verified.

use super::exchange::ServerConnection;
use parking_lot::Mutex;
use protoplex_net::OwnedGaugeGuard;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Most idle connections that a child keeps to one server.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// Longest time that a connection is kept idle: below the 75 s at which our own nodes close theirs, and nginx.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Idle HTTP/1.1 connections to one server. The last one used is taken first, so that what a burst opened ages and
/// goes.
#[derive(Default)]
pub(super) struct Http1Pool {
    idle: Mutex<Vec<ServerConnection>>,
    /// Number of open connections, in use or idle.
    open: Arc<AtomicUsize>,
}

impl Http1Pool {
    /// Takes a connection that is still open, as far as is known. `now` may be a moment ago.
    pub(super) fn take(&self, now: Instant) -> Option<ServerConnection> {
        loop {
            let mut connection = self.idle.lock().pop()?;
            let idle = now.saturating_duration_since(connection.idle_since);
            if connection.is_quiet() && idle < IDLE_MAX {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose last response is over.
    pub(super) fn put_back(&self, mut connection: ServerConnection) {
        connection.idle_since = Instant::now();
        connection.is_reused = true;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
    }

    /// Closes connections that were idle for too long, or that the server closed.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        // Connections are closed after the lock is released.
        let mut old = Vec::new();
        let mut idle = self.idle.lock();
        for at in (0..idle.len()).rev() {
            if now - idle[at].idle_since >= IDLE_MAX || !idle[at].is_quiet() {
                old.push(idle.swap_remove(at));
            }
        }
        drop(idle);
    }

    /// Number of idle connections.
    pub(super) fn len(&self) -> usize {
        self.idle.lock().len()
    }

    /// Counts a new connection until the guard is dropped.
    pub(super) fn count(&self) -> OwnedGaugeGuard {
        OwnedGaugeGuard::new(&self.open)
    }

    /// Number of open connections, those in use and tunnels included.
    pub(super) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connect::Connector, context::OpenConnections};
    use protoplex_wire::manifest::Upstream;
    use std::sync::Arc;

    #[tokio::test]
    async fn one_that_waits_too_long_is_closed_and_counts_no_more() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connected = Arc::new(OpenConnections::default());
        let connector = Connector::new(&Upstream::default(), None, &connected).unwrap();
        let (pool, authority) = (Http1Pool::default(), address.parse().unwrap());
        let counts = || (connected.open(), pool.len());
        for _ in 0..2 {
            let stream = connector.connect(&authority, None).await.unwrap();
            pool.put_back(ServerConnection::new(stream, pool.count()));
        }
        assert_eq!(counts(), (2, 2));
        let taken = pool.take(Instant::now()).unwrap();
        assert_eq!(counts(), (2, 1), "one is in use");
        pool.put_back(taken);
        pool.idle.lock()[0].idle_since -= IDLE_MAX;
        pool.sweep();
        assert_eq!((pool.len(), counts()), (1, (1, 1)));
        pool.idle.lock()[0].idle_since -= IDLE_MAX;
        assert!(pool.take(Instant::now()).is_none(), "nor is it used");
        assert_eq!(counts(), (0, 0));
    }
}
