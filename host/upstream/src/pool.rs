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

/// Idle connections to one server that a child keeps whatever its load: bursts of so many open none.
const IDLE_CONNECTIONS_MIN: usize = 256;
/// Longest time that a connection is kept idle: below the 75 s at which our own nodes close theirs, and nginx.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Idle HTTP/1.1 connections to one server. The last one used is taken first, so that what a burst opened ages and
/// goes.
#[derive(Default)]
pub(super) struct Http1Pool {
    idle: Mutex<Vec<ServerConnection>>,
    /// Number of open connections, in use or idle.
    open: Arc<AtomicUsize>,
    /// Most connections that were in use at once since the last sweep, and between the two before it. As many may be
    /// idle: with fewer, a load that stays the same would close connections and open others.
    in_use_max: AtomicUsize,
    in_use_max_before: AtomicUsize,
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
        connection.rest();
        let mut idle = self.idle.lock();
        // This one was in use.
        let in_use = self.open().saturating_sub(idle.len());
        let in_use_max = self.in_use_max.fetch_max(in_use, Relaxed).max(in_use);
        let most = in_use_max.max(self.in_use_max_before.load(Relaxed));
        if idle.len() < most.max(IDLE_CONNECTIONS_MIN) {
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
        let in_use = self.open().saturating_sub(idle.len());
        drop(idle);
        let in_use_max = self.in_use_max.swap(in_use, Relaxed);
        self.in_use_max_before.store(in_use_max, Relaxed);
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
    async fn as_many_are_kept_as_were_in_use_at_once() {
        const IN_USE: usize = IDLE_CONNECTIONS_MIN + 44;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string().parse().unwrap();
        tokio::spawn(async move {
            let mut accepted = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepted.push(stream);
            }
        });
        let connected = Arc::new(OpenConnections::default());
        let connector = Connector::new(&Upstream::default(), None, &connected).unwrap();
        let pool = Http1Pool::default();
        let mut in_use = Vec::new();
        for _ in 0..IN_USE {
            let stream = connector.connect(&authority, None).await.unwrap();
            in_use.push(ServerConnection::new(stream, pool.count()));
        }
        in_use.into_iter().for_each(|one| pool.put_back(one));
        assert_eq!(pool.len(), IN_USE);
        pool.sweep();
        let again: Vec<_> = (0..10).filter_map(|_| pool.take(Instant::now())).collect();
        again.into_iter().for_each(|one| pool.put_back(one));
        assert_eq!(pool.len(), IN_USE, "the load before the sweep counts");
        pool.sweep();
        pool.sweep();
        let last = pool.take(Instant::now()).unwrap();
        pool.put_back(last);
        assert_eq!(pool.len(), IN_USE - 1, "it does no longer");
    }

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
