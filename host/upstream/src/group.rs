//! One upstream: its servers, their connections, and a request's attempts at them.

mod attempt;
mod http1;
mod http2;
mod load;

pub use load::Load;

use super::{
    connect::Connector,
    context::UpstreamContext,
    counters::FailureCause,
    deadlines::ResponseDeadlines,
    exchange::ServerConnection,
    grpc::GrpcCall,
    h2::{Checkout, Http2Pool},
    health,
    outbound::Outbound,
    pool::Http1Pool,
    servers::{AttemptOutcome, Lease, Servers, Unavailable},
    tls::UpstreamTlsError,
};
use attempt::{Attempt, ConnectionNeeds, ConnectionOrStream, FailedAttempt, Resend};
use http::{StatusCode, uri::Authority};
use protoplex_http::{BodyError, BodyPace, Reply, ReplyBody, Scheme};
use protoplex_wire::manifest::Upstream;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use tokio_util::{sync::DropGuard, task::TaskTracker};

/// Servers that are tried when none of them takes the connection: the client waits meanwhile.
const UNSENT_ATTEMPTS_MAX: u32 = 3;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// No server takes the request.
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
    /// The server sent no head of a response in time.
    #[error("{server}: no answer in time")]
    TooSlow {
        /// `host:port`.
        server: String,
    },
    /// The client's body did not come. The connection tells the client.
    #[error("{0}")]
    Client(#[from] BodyError),
}

/// An upstream as one child uses it. A group outlives builds that do not change the upstream.
pub struct Group {
    pub(super) servers: Arc<Servers>,
    pools: Vec<Arc<Http1Pool>>,
    /// HTTP/2 connections, for each server.
    multiplexed: Vec<Arc<Http2Pool>>,
    connector: Arc<Connector>,
    upstream: Upstream,
    tasks: TaskTracker,
    /// Ends the health checks.
    _checks: Option<DropGuard>,
}

impl Group {
    /// Makes a group of servers of which nothing is known, and starts the health checks on the runtime that this is
    /// called on.
    ///
    /// # Errors
    /// A certificate that cannot be read.
    pub fn new(
        upstream: &Upstream,
        context: &UpstreamContext,
    ) -> Result<Arc<Self>, UpstreamTlsError> {
        let servers = Servers::new(upstream, context.children);
        Self::of(servers, upstream, context, |_| Default::default())
    }

    /// Returns the group with other servers, as after a change of the directory. Servers that stay keep their
    /// connections and their health.
    ///
    /// # Errors
    /// A certificate that cannot be read.
    pub fn successor(
        self: &Arc<Self>,
        upstream: &Upstream,
        context: &UpstreamContext,
    ) -> Result<Arc<Self>, UpstreamTlsError> {
        let now = Instant::now().into();
        let servers = self.servers.successor(upstream, context.children, now);
        if Arc::ptr_eq(&servers, &self.servers) {
            return Ok(Arc::clone(self));
        }
        // Connections depend on these, and are kept where none of them changed.
        let old = &self.upstream;
        let same = old.protocol == upstream.protocol
            && old.tls == upstream.tls
            && old.proxy_protocol == upstream.proxy_protocol;
        Self::of(servers, upstream, context, |authority| {
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
        context: &UpstreamContext,
        kept: impl Fn(&Authority) -> (Arc<Http1Pool>, Arc<Http2Pool>),
    ) -> Result<Arc<Self>, UpstreamTlsError> {
        let connector = Connector::new(
            upstream,
            context.node_certificate.as_ref(),
            &context.connected,
        )?;
        let connector = Arc::new(connector);
        let kept = (0..servers.len()).map(|index| kept(servers.authority(index)));
        let (pools, multiplexed) = kept.unzip();
        Ok(Arc::new(Self {
            pools,
            multiplexed,
            _checks: health::watch(&servers, &connector, &context.tasks, &context.stop),
            connector,
            upstream: upstream.clone(),
            servers,
            tasks: context.tasks.clone(),
        }))
    }

    /// Manifest's entry of the upstream that the group was made of.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Servers of the group.
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
        let call = GrpcCall::of(&request);
        if call.is_some() {
            // Whatever the server speaks, it has all that there is of the body, and may be the one to speak next.
            request.body.advance(BodyPace::TwoWay);
        }
        let mut deadlines = self.deadlines(&request, call, started);
        let (mut tried, mut attempts) = (0_u64, 0);
        // An attempt by HTTP/2 reads the head again.
        let head = match self.connector.may_speak_http2() {
            true => request.head.clone(),
            false => std::mem::take(&mut request.head),
        };
        let head = request.http1_head(head);
        request.counters.count_request();
        let mut attempt = Attempt {
            request: &mut request,
            head,
            deadlines: &mut deadlines,
            started,
            is_fresh: false,
        };
        loop {
            let key = attempt.request.key;
            let lease = match self.servers.pick(key, tried, started.into()) {
                Err(Unavailable::Full) => Box::pin(self.servers.wait(key, tried)).await,
                picked => picked,
            };
            let counters = &attempt.request.counters;
            let lease = lease.inspect_err(|why| counters.count_failure(why.cause()))?;
            let index = lease.index();
            let failed = match self.attempt(lease, &mut attempt).await {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            let request = &*attempt.request;
            if !failed.is_stale {
                request.counters.count_failure(failed.cause);
            }
            if !failed.may_resend(request) {
                return Err(failed.error);
            }
            if failed.is_stale {
                // Nobody's fault, and no attempt: the request goes again, on a connection of its own.
                attempt.is_fresh = true;
                continue;
            }
            attempts += 1;
            if !self.goes_on(&failed, request, attempts) {
                return Err(failed.error);
            }
            request.counters.count_retry();
            tried |= 1_u64.checked_shl(index as u32).unwrap_or(0);
        }
    }

    /// Times of a request: its own where it has some, else the upstream's.
    fn deadlines(
        &self,
        request: &Outbound,
        call: Option<GrpcCall>,
        started: Instant,
    ) -> ResponseDeadlines {
        let own = &request.timeouts;
        let total = own.total.or(match self.upstream.total_timeout_ms {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        });
        let first_byte = own.first_byte.unwrap_or_else(|| {
            let usual = Duration::from_millis(self.upstream.first_byte_timeout_ms);
            let clients = call.and_then(|call| call.timeout);
            clients.map_or(usual, |clients| clients.max(usual))
        });
        let idle = Duration::from_millis(self.upstream.idle_timeout_ms);
        ResponseDeadlines::new(started, first_byte, own.idle.unwrap_or(idle), total)
    }

    /// Whether there is another attempt after so many, for a request that may be sent again. Spends the budget of
    /// retries where the next one makes a server busier.
    fn goes_on(&self, failed: &FailedAttempt, request: &Outbound, attempts: u32) -> bool {
        let others = usize::try_from(attempts).unwrap_or(usize::MAX) < self.servers.len();
        let goes_on = match failed.resend {
            Resend::Unsent => others && attempts < UNSENT_ATTEMPTS_MAX,
            Resend::Refused if others => attempts < UNSENT_ATTEMPTS_MAX,
            // The only server that refused a request may take the next; one that is not there is not there.
            _ => {
                request.retry != super::Retry::Never
                    && self.servers.may_retry(attempts, Instant::now().into())
            }
        };
        goes_on && !matches!(failed.error, RelayError::TooSlow { .. })
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

    /// Opens a connection of HTTP/1.1.
    async fn connect(
        &self,
        lease: &Lease,
        client: SocketAddr,
        deadline: Instant,
    ) -> Result<ServerConnection, FailedAttempt> {
        let server = lease.authority();
        let connected =
            timeout_at(deadline, self.connector.connect_http1(server, Some(client))).await;
        connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map(|io| ServerConnection::new(io, self.pools[lease.index()].count()))
            .map_err(|error| unreached(lease, &error))
    }

    /// A new connection to a server, or a stream on one of HTTP/2.
    async fn connection_or_stream(
        &self,
        lease: &Lease,
        needs: ConnectionNeeds,
        deadline: Instant,
    ) -> Result<ConnectionOrStream, FailedAttempt> {
        let ConnectionNeeds { client, upgrades } = needs;
        if !self.connector.may_speak_http2() {
            let connection = self.connect(lease, client, deadline).await;
            return connection.map(ConnectionOrStream::Http1);
        }
        let connections = &self.multiplexed[lease.index()];
        let checkout = connections.checkout(&self.connector, lease.authority(), &self.tasks);
        let mut handle = match timeout_at(deadline, checkout).await {
            Ok(Ok(Checkout::Http2(handle))) => handle,
            Ok(Ok(Checkout::Http1(stream))) => {
                let counted = self.pools[lease.index()].count();
                return Ok(ConnectionOrStream::Http1(ServerConnection::new(
                    stream, counted,
                )));
            }
            Ok(Err(error)) => return Err(unreached(lease, &error)),
            Err(_) => return Err(unreached(lease, &io::ErrorKind::TimedOut.into())),
        };
        handle.is_extended = upgrades
            && timeout_at(deadline, handle.takes_connect())
                .await
                .unwrap_or(false);
        if upgrades && !handle.is_extended && self.connector.scheme() == Scheme::Https {
            // The server may speak HTTP/1.1, too. Without TLS it never hears of the upgrade.
            let connection = self.connect(lease, client, deadline).await;
            return connection.map(ConnectionOrStream::Http1);
        }
        Ok(ConnectionOrStream::Http2(handle))
    }

    /// Sends a request to one server. What not every request needs is on the heap, so that the future is small.
    async fn attempt(
        &self,
        lease: Lease,
        attempt: &mut Attempt<'_>,
    ) -> Result<Reply, FailedAttempt> {
        let pooled = if attempt.is_fresh || self.connector.names_client() {
            None
        } else {
            self.pools[lease.index()].take(attempt.started)
        };
        let sent_on = match pooled {
            Some(connection) => ConnectionOrStream::Http1(connection),
            None => {
                let needs = ConnectionNeeds {
                    client: attempt.request.client,
                    upgrades: attempt.request.upgrade.is_some(),
                };
                let until = attempt.deadlines.for_server();
                Box::pin(self.connection_or_stream(&lease, needs, until)).await?
            }
        };
        match sent_on {
            ConnectionOrStream::Http1(connection) => {
                self.attempt_http1(connection, lease, attempt).await
            }
            ConnectionOrStream::Http2(handle) => {
                Box::pin(self.attempt_http2(handle, lease, attempt)).await
            }
        }
    }
}

/// Reports to the server's health that the head of a response has come, and counts a 502, 503 or 504 as a failure.
fn answered(lease: &Lease, request: &Outbound, status: StatusCode) {
    let outcome = AttemptOutcome::Answered(status);
    if outcome.is_failure() {
        request.counters.count_failure(FailureCause::Status);
        lease.report(outcome, Instant::now().into());
    } else {
        lease.succeeded();
    }
}

fn unreached(lease: &Lease, error: &io::Error) -> FailedAttempt {
    lease.report(AttemptOutcome::Failed, Instant::now().into());
    let cause = match error.kind() {
        io::ErrorKind::TimedOut => FailureCause::ConnectTimeout,
        _ => FailureCause::Connect,
    };
    let error = RelayError::Broken {
        server: lease.authority().to_string(),
        cause: format!("no connection: {error}"),
    };
    FailedAttempt::new(error, cause, Resend::Unsent)
}
