//! One upstream: its servers, their connections, and a request's tries at them.

mod http1;
mod http2;
mod load;

pub use load::Load;

use super::{
    connect::Connector,
    counters::Cause,
    exchange::Connection,
    grpc::Call,
    h2::{Checkout, Connections, Handle},
    health,
    means::Means,
    outbound::Outbound,
    patience::Patience,
    pool::Pool,
    servers::{Lease, Outcome, Servers, Unavailable},
    tls::UpstreamTlsError,
};
use bytes::Bytes;
use http::{StatusCode, uri::Authority};
use protoplex_http::{BodyError, Pace, Reply, ReplyBody};
use protoplex_wire::manifest::Upstream;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use tokio_util::{sync::DropGuard, task::TaskTracker};

/// Servers that are tried when none of them takes the connection: the client waits meanwhile.
const UNSENT_TRIES_MAX: u32 = 3;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// No server to send it to, or none with room.
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
    /// The server cannot be reached, or ended the connection.
    #[error("{server}: {cause}")]
    Broken {
        /// `host:port`.
        server: String,
        /// Why, for the log.
        cause: String,
    },
    /// It did not answer in time.
    #[error("{server}: no answer in time")]
    TooSlow {
        /// `host:port`.
        server: String,
    },
    /// The client's body did not come; the connection tells the client.
    #[error("{0}")]
    Client(#[from] BodyError),
}

/// An upstream as one child uses it. It outlives builds that do not change it.
pub struct Group {
    pub(super) servers: Arc<Servers>,
    pools: Vec<Arc<Pool>>,
    /// Of those that speak HTTP/2.
    multiplexed: Vec<Arc<Connections>>,
    connector: Arc<Connector>,
    upstream: Upstream,
    tasks: TaskTracker,
    /// Ends the health checks.
    _checks: Option<DropGuard>,
}

/// How one try ended without a response.
struct Failed {
    error: RelayError,
    cause: Cause,
    /// Nothing of it can have reached a server that acts on it.
    unsent: bool,
    /// And that is the server's own word.
    refused: bool,
    /// Nothing of a response came.
    unanswered: bool,
    /// On a connection that had been idle, which the server may just have closed, or that it said goodbye on.
    stale: bool,
}

impl Failed {
    fn of(error: RelayError, cause: Cause, unsent: bool, unanswered: bool) -> Self {
        Self {
            error,
            cause,
            unsent,
            refused: false,
            unanswered,
            stale: false,
        }
    }
}

/// How a request gets to its server.
enum Way {
    Http1(Connection),
    Http2 {
        handle: Handle,
        /// The server takes an extended CONNECT, and that is what the request needs.
        extended: bool,
    },
}

impl Group {
    /// With servers of which nothing is known. Health checks begin, on the runtime that this is called on.
    ///
    /// # Errors
    /// A certificate that cannot be read.
    pub fn new(upstream: &Upstream, means: &Means) -> Result<Arc<Self>, UpstreamTlsError> {
        let servers = Servers::new(upstream, means.children);
        Self::of(servers, upstream, means, |_| Default::default())
    }

    /// The group with other servers, as after a change of the directory: those that stay keep their connections and
    /// what is known of them.
    ///
    /// # Errors
    /// A certificate that cannot be read.
    pub fn successor(
        self: &Arc<Self>,
        upstream: &Upstream,
        means: &Means,
    ) -> Result<Arc<Self>, UpstreamTlsError> {
        let now = Instant::now().into();
        let servers = self.servers.successor(upstream, means.children, now);
        if Arc::ptr_eq(&servers, &self.servers) {
            return Ok(Arc::clone(self));
        }
        // Connections are what these make them.
        let old = &self.upstream;
        let same = old.protocol == upstream.protocol
            && old.tls == upstream.tls
            && old.proxy_protocol == upstream.proxy_protocol;
        Self::of(servers, upstream, means, |authority| {
            let mut all = 0..self.servers.len();
            match all.find(|&at| same && self.servers.authority(at) == authority) {
                Some(at) => (
                    Arc::clone(&self.pools[at]),
                    Arc::clone(&self.multiplexed[at]),
                ),
                None => Default::default(),
            }
        })
    }

    fn of(
        servers: Arc<Servers>,
        upstream: &Upstream,
        means: &Means,
        kept: impl Fn(&Authority) -> (Arc<Pool>, Arc<Connections>),
    ) -> Result<Arc<Self>, UpstreamTlsError> {
        let connector =
            Connector::new(upstream, means.node_certificate.as_ref(), &means.connected)?;
        let connector = Arc::new(connector);
        let kept = (0..servers.len()).map(|index| kept(servers.authority(index)));
        let (pools, multiplexed) = kept.unzip();
        Ok(Arc::new(Self {
            pools,
            multiplexed,
            _checks: health::watch(&servers, &connector, &means.tasks, &means.stop),
            connector,
            upstream: upstream.clone(),
            servers,
            tasks: means.tasks.clone(),
        }))
    }

    /// What it was made of.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Its servers.
    pub fn servers(&self) -> &Arc<Servers> {
        &self.servers
    }

    /// Closes connections that were idle for too long.
    pub fn sweep(&self) {
        for pool in &self.pools {
            pool.sweep();
        }
        for connections in &self.multiplexed {
            connections.sweep();
        }
    }

    /// Sends a request to a server, and again where that is safe and there is a budget for it.
    ///
    /// # Errors
    /// Why there is no response.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection it used.
    pub async fn send(self: &Arc<Self>, mut request: Outbound) -> Result<Reply, RelayError> {
        let started = Instant::now();
        let total = request
            .timeouts
            .total
            .or(match self.upstream.total_timeout_ms {
                0 => None,
                ms => Some(Duration::from_millis(ms)),
            });
        let call = Call::of(&request);
        if call.is_some() {
            // Whatever the server speaks, it has all that there is of the body, and may be the one to speak next.
            request.body.advance(Pace::TwoWay);
        }
        let first_byte = request.timeouts.first_byte.unwrap_or_else(|| {
            let usual = Duration::from_millis(self.upstream.first_byte_timeout_ms);
            let clients = call.and_then(|call| call.timeout);
            clients.map_or(usual, |clients| clients.max(usual))
        });
        let idle = request
            .timeouts
            .idle
            .unwrap_or(Duration::from_millis(self.upstream.idle_timeout_ms));
        let mut patience = Patience::new(started, first_byte, idle, total);
        let (mut tried, mut tries, mut fresh) = (0_u64, 0, false);
        // HTTP/2 reads it again.
        let head = match self.connector.may_speak_http2() {
            true => request.head.clone(),
            false => std::mem::take(&mut request.head),
        };
        let head = request.http1_head(head);
        request.counters.count_request();
        loop {
            let lease = match self.servers.pick(request.key, tried, started.into()) {
                Err(Unavailable::Full) => Box::pin(self.servers.wait(request.key, tried)).await,
                picked => picked,
            };
            let lease = lease.inspect_err(|why| request.counters.count_failure(why.cause()))?;
            let index = lease.index();
            let failed = match self
                .attempt(lease, &mut request, &head, started, &mut patience, fresh)
                .await
            {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            if !failed.stale {
                request.counters.count_failure(failed.cause);
            }
            let safe = failed.unsent || (failed.unanswered && request.is_repeatable());
            if !safe {
                return Err(failed.error);
            }
            if failed.stale {
                // Nobody's fault, and no try: the same again on a connection of its own.
                fresh = true;
                continue;
            }
            tries += 1;
            let others = usize::try_from(tries).unwrap_or(usize::MAX) < self.servers.len();
            // The only server that refused a request may take the next; one that is not there is not there.
            let goes_on = if failed.unsent && (others || !failed.refused) {
                // No server is made busier by it.
                others && tries < UNSENT_TRIES_MAX
            } else {
                request.retry != super::Retry::Never
                    && self.servers.may_retry(tries, Instant::now().into())
            };
            if !goes_on || matches!(failed.error, RelayError::TooSlow { .. }) {
                return Err(failed.error);
            }
            request.counters.count_retry();
            tried |= 1_u64.checked_shl(index as u32).unwrap_or(0);
        }
    }

    /// Connects to a server for a CONNECT: a tunnel.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn tunnel(self: &Arc<Self>, request: Outbound) -> Result<Reply, RelayError> {
        let now = Instant::now();
        let counters = &request.counters;
        counters.count_request();
        let lease = self.servers.pick(request.key, 0, now.into());
        let lease = lease.inspect_err(|why| counters.count_failure(why.cause()))?;
        let deadline = now + Duration::from_millis(self.upstream.connect_timeout_ms);
        let connection = self.connect(&lease, request.client, deadline).await;
        let connection = connection.map_err(|failed| {
            counters.count_failure(failed.cause);
            failed.error
        })?;
        let mut reply = Reply::empty(StatusCode::OK);
        reply.body = ReplyBody::Tunnel(connection.into_tunnel());
        Ok(reply)
    }

    /// A connection of HTTP/1.1 of its own.
    async fn connect(
        &self,
        lease: &Lease,
        client: SocketAddr,
        deadline: Instant,
    ) -> Result<Connection, Failed> {
        let server = lease.authority();
        let connected =
            timeout_at(deadline, self.connector.connect_http1(server, Some(client))).await;
        connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map(|io| Connection::new(io, self.pools[lease.index()].count()))
            .map_err(|error| unreached(lease, &error))
    }

    /// A new way to a server: a connection, or a place on one.
    async fn way(
        &self,
        lease: &Lease,
        client: SocketAddr,
        upgrades: bool,
        deadline: Instant,
    ) -> Result<Way, Failed> {
        if !self.connector.may_speak_http2() {
            let connection = self.connect(lease, client, deadline).await;
            return connection.map(Way::Http1);
        }
        let connections = &self.multiplexed[lease.index()];
        let checkout = connections.checkout(&self.connector, lease.authority(), &self.tasks);
        let mut handle = match timeout_at(deadline, checkout).await {
            Ok(Ok(Checkout::Http2(handle))) => handle,
            Ok(Ok(Checkout::Http1(stream))) => {
                let counted = self.pools[lease.index()].count();
                return Ok(Way::Http1(Connection::new(stream, counted)));
            }
            Ok(Err(error)) => return Err(unreached(lease, &error)),
            Err(_) => return Err(unreached(lease, &io::ErrorKind::TimedOut.into())),
        };
        let extended = upgrades
            && timeout_at(deadline, handle.takes_connect())
                .await
                .unwrap_or(false);
        if upgrades && !extended && self.connector.is_tls() {
            // It may speak HTTP/1.1, too. Without TLS it never hears of the upgrade.
            let connection = self.connect(lease, client, deadline).await;
            return connection.map(Way::Http1);
        }
        Ok(Way::Http2 { handle, extended })
    }

    /// What not every request needs is on the heap, so that its future is small.
    async fn attempt(
        &self,
        lease: Lease,
        request: &mut Outbound,
        head: &Bytes,
        started: Instant,
        patience: &mut Patience,
        fresh: bool,
    ) -> Result<Reply, Failed> {
        let pooled = if fresh || self.connector.names_visitors() {
            None
        } else {
            self.pools[lease.index()].take(started)
        };
        let reused = pooled.is_some();
        let way = match pooled {
            Some(connection) => Way::Http1(connection),
            None => {
                let upgrades = request.upgrade.is_some();
                let until = patience.for_server();
                Box::pin(self.way(&lease, request.client, upgrades, until)).await?
            }
        };
        match way {
            Way::Http1(connection) => {
                let again = (head, reused);
                self.attempt_http1(connection, lease, request, patience, again)
                    .await
            }
            Way::Http2 { handle, extended } => {
                Box::pin(self.attempt_http2(handle, lease, request, patience, fresh, extended))
                    .await
            }
        }
    }
}

/// A response's head has come. One that tells of a server in trouble counts against it.
fn answered(lease: &Lease, request: &Outbound, status: StatusCode) {
    let outcome = Outcome::Answered(status);
    if outcome.is_failure() {
        request.counters.count_failure(Cause::Status);
        lease.report(outcome, Instant::now().into());
    } else {
        lease.succeeded();
    }
}

fn unreached(lease: &Lease, error: &io::Error) -> Failed {
    lease.report(Outcome::Failed, Instant::now().into());
    let cause = match error.kind() {
        io::ErrorKind::TimedOut => Cause::ConnectTimeout,
        _ => Cause::Connect,
    };
    let error = RelayError::Broken {
        server: lease.authority().to_string(),
        cause: format!("no connection: {error}"),
    };
    Failed::of(error, cause, true, true)
}
