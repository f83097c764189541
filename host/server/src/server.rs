//! A server: listeners whose connections speak HTTP to one service.

use crate::{
    AccessLog, HttpCounters, HttpLimits, Service, body_rules::BodyRules, connection::HttpProtocol,
    context::ServerContext,
};
use protoplex_http::Scheme;
use protoplex_net::{
    self as net, Connections, Entrance, ListenHandle, Security, TlsHandoff, Trust,
};
use rustls::ServerConfig;
use std::{
    collections::HashSet,
    future::Future,
    net::IpAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use tokio::net::TcpListener;

/// Protocols that are spoken inside TLS, by their names in ALPN. HTTP/1.0 is there for clients that name it alone.
pub const ALPN: [&str; 3] = ["h2", "http/1.1", "http/1.0"];

/// Settings of a server.
#[derive(Clone, Default)]
pub struct ServerSettings {
    /// Limits on what clients may take.
    pub limits: HttpLimits,
    /// Forwarders that are believed.
    pub trust: Trust,
    /// TLS with [`ALPN`]. Without it, HTTPS listeners close every connection.
    pub tls: Option<Arc<ServerConfig>>,
    /// Access log, which gets a record of each request.
    pub access_log: Option<Arc<dyn AccessLog>>,
}

/// A set of listeners that call one service.
pub struct Server<S>(Arc<ServerContext<S>>);

impl<S: Service> Server<S> {
    /// Makes a server without listeners.
    pub fn new(service: Arc<S>, settings: ServerSettings) -> Self {
        let ServerSettings {
            limits,
            trust,
            tls,
            access_log,
        } = settings;
        let connections = Connections::new(net::ConnectionSettings {
            limits: limits.net.clone(),
            trust,
            tls,
        });
        Self(Arc::new(ServerContext {
            service,
            body_rules: Arc::new(BodyRules::new(&limits, connections.gauge())),
            limits,
            connections,
            access_log,
            counters: HttpCounters::default(),
            in_flight: Arc::default(),
            tunnels: Arc::default(),
            window_budget: Arc::default(),
        }))
    }

    /// Accepts connections until it is told to stop, or the socket is shut; errors never end it.
    pub fn listen(&self, listener: TcpListener, scheme: Scheme) -> ListenHandle {
        let security = match scheme {
            Scheme::Http => Security::Plain,
            Scheme::Https => Security::Tls,
        };
        self.listen_by(listener, security, false)
    }

    /// Accepts plain HTTP of the fleet's nodes: the build that a request names is told to the service.
    pub fn listen_internal(&self, listener: TcpListener) -> ListenHandle {
        self.listen_by(listener, Security::Plain, true)
    }

    /// Accepts as [`Self::listen_internal`] does, on a socket that is shared with another protocol: `handoff` takes
    /// connections that begin with a TLS handshake.
    pub fn listen_shared(&self, listener: TcpListener, handoff: TlsHandoff) -> ListenHandle {
        self.listen_by(listener, Security::Either(handoff), true)
    }

    fn listen_by(
        &self,
        listener: TcpListener,
        security: Security,
        is_internal: bool,
    ) -> ListenHandle {
        let entrance = Entrance {
            security,
            is_internal,
        };
        let http = HttpProtocol(Arc::clone(&self.0));
        self.0.connections.listen(listener, entrance, http)
    }

    /// Drains: ends idle connections over a short while, and others after the reply they are at.
    pub fn drain(&self) {
        self.0.connections.drain();
    }

    /// Returns when no connection is left. Call [`Self::drain`] before.
    pub async fn drained(&self) {
        self.0.connections.drained().await;
    }

    /// Number of open connections.
    pub fn connections(&self) -> usize {
        self.0.connections.open()
    }

    /// Number of connections and streams that were switched to something else and are not over.
    pub fn tunnels(&self) -> usize {
        self.0.tunnels.load(Relaxed)
    }

    /// Number of tasks: accept loops, connections, and streams of HTTP/2.
    pub fn tasks(&self) -> usize {
        self.0.connections.tasks().len()
    }

    /// Runs a task that a drain waits for, as it does for connections.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.connections.tasks().spawn(task);
    }

    /// Counts of requests that were refused or cut for what they said in HTTP.
    pub fn counters(&self) -> &HttpCounters {
        &self.0.counters
    }

    /// Counts of connections and requests that were refused or cut whatever they say.
    pub fn connection_counters(&self) -> &net::ConnectionCounters {
        self.0.connections.counters()
    }

    /// Names the nodes of the fleet: their clients were counted where they came in.
    pub fn set_fleet(&self, nodes: HashSet<IpAddr>) {
        self.0.connections.set_fleet(nodes);
    }

    /// Number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Relaxed)
    }
}
