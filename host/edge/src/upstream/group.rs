//! One upstream: its servers, their connections, and a request's tries at them.

use super::{
    body::Body,
    connect::Connector,
    exchange::{Connection, Exchange, Failure},
    outbound::Outbound,
    pool::Pool,
    response::{Asked, Response},
    sending::Sending,
    servers::{Lease, Outcome, Servers, Unavailable},
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use protoplex_http::{BodyError, Reply, ReplyBody};
use protoplex_wire::manifest::Upstream;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

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
    connector: Connector,
    upstream: Upstream,
}

/// How one try ended without a response.
struct Failed {
    error: RelayError,
    /// Nothing of it can have reached a server that acts on it.
    unsent: bool,
    /// Nothing of a response came.
    unanswered: bool,
    /// On a connection that had been idle: the server may just have closed it.
    stale: bool,
}

impl Group {
    /// `children` share the limits.
    ///
    /// # Errors
    /// A certificate that cannot be read.
    pub fn new(upstream: &Upstream, children: usize) -> Result<Arc<Self>, String> {
        let servers = Servers::new(upstream, children);
        Ok(Arc::new(Self {
            pools: (0..servers.len()).map(|_| Arc::default()).collect(),
            connector: Connector::new(upstream, None).map_err(|error| error.to_string())?,
            upstream: upstream.clone(),
            servers,
        }))
    }

    /// The group with other servers, as after a change of the directory: those that stay keep their connections and
    /// what is known of them.
    ///
    /// # Errors
    /// A certificate that cannot be read.
    pub fn successor(
        self: &Arc<Self>,
        upstream: &Upstream,
        children: usize,
    ) -> Result<Arc<Self>, String> {
        let servers = self
            .servers
            .successor(upstream, children, Instant::now().into());
        if Arc::ptr_eq(&servers, &self.servers) {
            return Ok(Arc::clone(self));
        }
        let pool = |index| {
            let authority = servers.authority(index);
            let known = (0..self.servers.len()).find(|&at| self.servers.authority(at) == authority);
            known.map_or_else(Arc::default, |at| Arc::clone(&self.pools[at]))
        };
        Ok(Arc::new(Self {
            pools: (0..servers.len()).map(pool).collect(),
            connector: Connector::new(upstream, None).map_err(|error| error.to_string())?,
            upstream: upstream.clone(),
            servers,
        }))
    }

    /// What it was made of.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Connections that wait for a request.
    pub fn idle_connections(&self) -> usize {
        self.pools.iter().map(|pool| pool.len()).sum()
    }

    /// Closes connections that were idle for too long.
    pub fn sweep(&self) {
        for pool in &self.pools {
            pool.sweep();
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
        let total_at = total.map(|total| started + total);
        let first_byte = request
            .timeouts
            .first_byte
            .unwrap_or(Duration::from_millis(self.upstream.first_byte_timeout_ms));
        let (mut tried, mut tries, mut fresh) = (0_u64, 0, false);
        let head = request.http1_head();
        loop {
            let lease = match self.servers.pick(request.key, tried, started.into()) {
                Ok(lease) => lease,
                Err(Unavailable::Full) => self.servers.wait(request.key, tried).await?,
                Err(unavailable) => return Err(unavailable.into()),
            };
            let index = lease.index();
            let deadline = total_at.map_or(started + first_byte, |at| at.min(started + first_byte));
            let failed = match self
                .attempt(lease, &mut request, &head, deadline, total_at, fresh)
                .await
            {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
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
            let goes_on = if failed.unsent {
                // No server is made busier by it.
                others && tries < UNSENT_TRIES_MAX
            } else {
                request.retry != super::Retry::Never
                    && self.servers.may_retry(tries - 1, Instant::now().into())
            };
            if !goes_on || matches!(failed.error, RelayError::TooSlow { .. }) {
                return Err(failed.error);
            }
            tried |= 1 << index.min(63);
        }
    }

    /// Connects to a server for a CONNECT: a tunnel.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn tunnel(
        self: &Arc<Self>,
        key: Option<u64>,
        client: IpAddr,
    ) -> Result<Reply, RelayError> {
        let now = Instant::now();
        let lease = self.servers.pick(key, 0, now.into())?;
        let deadline = now + Duration::from_millis(self.upstream.connect_timeout_ms);
        let connection = self.connect(&lease, client, deadline).await;
        let connection = connection.map_err(|failed| failed.error)?;
        let sending = Sending::new(Bytes::new(), protoplex_http::Body::empty(), None, false);
        let exchange = Exchange::new(connection, sending, Asked::default());
        let pool = Arc::clone(&self.pools[lease.index()]);
        let body = Body::new(exchange, false, pool, Duration::ZERO, None, lease).tunnel();
        let mut reply = Reply::empty(StatusCode::OK);
        reply.body = ReplyBody::Relay(Box::new(body));
        Ok(reply)
    }

    async fn connect(
        &self,
        lease: &Lease,
        client: IpAddr,
        deadline: Instant,
    ) -> Result<Connection, Failed> {
        let server = self.servers.authority(lease.index());
        let connected = timeout_at(
            deadline,
            self.connector
                .connect(server, Some(SocketAddr::new(client, 0))),
        )
        .await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        connected.map(Connection::new).map_err(|error| {
            lease.report(Outcome::Failed, Instant::now().into());
            Failed {
                error: RelayError::Broken {
                    server: server.to_string(),
                    cause: format!("no connection: {error}"),
                },
                unsent: true,
                unanswered: true,
                stale: false,
            }
        })
    }

    async fn attempt(
        &self,
        lease: Lease,
        request: &mut Outbound,
        head: &Bytes,
        deadline: Instant,
        total_at: Option<Instant>,
        fresh: bool,
    ) -> Result<Reply, Failed> {
        let index = lease.index();
        let server = || self.servers.authority(index).to_string();
        let pooled = if fresh {
            None
        } else {
            self.pools[index].take()
        };
        let reused = pooled.is_some();
        let connection = match pooled {
            Some(connection) => connection,
            None => {
                let connect = Duration::from_millis(self.upstream.connect_timeout_ms);
                let deadline = deadline.min(Instant::now() + connect);
                self.connect(&lease, request.client, deadline).await?
            }
        };
        let asked = Asked {
            is_head: request.method == Method::HEAD,
        };
        let holds = request.expects_continue;
        let length = request.length();
        let body = std::mem::replace(&mut request.body, protoplex_http::Body::empty());
        let absent = body.is_absent();
        let sending = Sending::new(head.clone(), body, length, holds);
        let mut exchange = Exchange::new(connection, sending, asked);
        let failure = match exchange.response(deadline, request.interims.as_ref()).await {
            Ok(response) => {
                lease.report(Outcome::Answered(response.status), Instant::now().into());
                match self.reply(exchange, response, request, total_at, lease) {
                    Ok(reply) => return Ok(reply),
                    Err(why) => Failure::Malformed(why),
                }
            }
            Err(failure) => {
                let body = exchange.sending.untouched_body();
                let whole = absent || body.is_some();
                request.body = body.unwrap_or_else(protoplex_http::Body::empty);
                let (begun, answered) = match &failure {
                    Failure::Ended {
                        begun, answered, ..
                    } => (*begun, *answered),
                    _ => (true, true),
                };
                let stale =
                    reused && whole && !answered && matches!(failure, Failure::Ended { .. });
                if !stale && !matches!(failure, Failure::Client(_)) {
                    lease.report(Outcome::Failed, Instant::now().into());
                }
                return Err(Failed {
                    unsent: !begun && whole,
                    unanswered: !answered && whole,
                    stale,
                    error: error(failure, server()),
                });
            }
        };
        Err(Failed {
            error: error(failure, server()),
            unsent: false,
            unanswered: false,
            stale: false,
        })
    }

    fn reply(
        &self,
        mut exchange: Exchange,
        response: Response,
        request: &Outbound,
        total_at: Option<Instant>,
        lease: Lease,
    ) -> Result<Reply, &'static str> {
        let mut reply = Reply::empty(response.status);
        reply.lines = response.lines;
        reply.dated = response.dated;
        let switches = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if switches {
            let wanted = request.upgrade.as_deref();
            let given = response.upgrade.as_deref();
            let agreed = wanted
                .zip(given)
                .is_some_and(|(wanted, given)| wanted.eq_ignore_ascii_case(given));
            let Some(protocol) = given.filter(|_| agreed) else {
                return Err("it switches to a protocol that nobody asked for");
            };
            let protocol = HeaderValue::from_str(protocol);
            let protocol = protocol.map_err(|_| "the protocol it switches to is malformed")?;
            reply.headers.push((header::UPGRADE, protocol));
        }
        let pool = Arc::clone(&self.pools[lease.index()]);
        if !switches && let Some(body) = exchange.body_at_hand() {
            reply.body = match response.length {
                _ if !body.is_empty() => ReplyBody::Full(body),
                Some(0) => ReplyBody::Empty,
                length => ReplyBody::Absent { bytes: length },
            };
            if response.keep_alive && exchange.is_over() {
                pool.put_back(exchange.connection);
            }
            return Ok(reply);
        }
        let idle = request
            .timeouts
            .idle
            .unwrap_or(Duration::from_millis(self.upstream.idle_timeout_ms));
        let body = Body::new(exchange, response.keep_alive, pool, idle, total_at, lease);
        reply.body = ReplyBody::Relay(Box::new(if switches { body.tunnel() } else { body }));
        Ok(reply)
    }
}

fn error(failure: Failure, server: String) -> RelayError {
    match failure {
        Failure::Ended { cause, .. } => RelayError::Broken { server, cause },
        Failure::Malformed(why) => RelayError::Broken {
            server,
            cause: why.into(),
        },
        Failure::TooSlow => RelayError::TooSlow { server },
        Failure::Client(error) => RelayError::Client(error),
    }
}
