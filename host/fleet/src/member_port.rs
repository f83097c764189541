//! A port for members of the fleet: HTTP/1.1 and HTTP/2 by mutual TLS. What comes in is a router; a request carries the
//! [`PeerCertificate`] who sent it. Who may do what is the router's matter, or [`operators_only`]'s.

use crate::{
    accept::AcceptLoop,
    admission::{AdmissionLimits, AdmissionPermit},
    identity::{self, Identity},
};
use axum::{
    Extension, Json, Router,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use protoplex_wire::status::ApiError;
use rustls::{ServerConfig, pki_types::CertificateDer};
use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections that have not shown a certificate: a whole fleet comes back at once after the Seed was away, and each of
/// them takes a round trip or two.
const HANDSHAKES: AdmissionLimits = AdmissionLimits {
    connections_max: 1_024,
    address_connections_max: 128,
};
/// Longest time of a handshake; a peer that needs more is cut off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time until the head of an HTTP/1.1 request; a client that needs more is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which an HTTP/2 connection is pinged, and the time in which it must answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Longest time that requests in flight may take at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Streams of one connection: a node fetches some blobs beside its link.
const STREAMS_MAX: u32 = 256;
/// Flow control window of one stream: uploads should not wait for round trips.
const WINDOW_BYTES: u32 = 2 << 20;

/// A port for members, ready to be served.
pub struct MemberPort {
    /// Name of the port, for the log.
    pub name: &'static str,
    /// Listening socket of the port.
    pub listener: TcpListener,
    /// TLS that asks clients for a certificate, see [`server_config`](crate::mutual_tls::server_config).
    pub tls: Arc<ServerConfig>,
    /// Router that answers requests.
    pub router: Router,
    /// Connections at once that have shown a certificate.
    pub connections_max: usize,
}

/// The owner of the certificate that a connection's client has shown: an extension of each of its requests.
#[derive(Clone, Debug, Default)]
pub struct PeerCertificate {
    /// Identity in the certificate; `None` where it is good for something else.
    pub identity: Option<Identity>,
    /// Names and addresses of the certificate: where its owner may be reached.
    pub hosts: Arc<BTreeSet<String>>,
}

impl PeerCertificate {
    fn of(certificate: Option<&CertificateDer<'_>>) -> Self {
        let Some(certificate) = certificate else {
            return Self::default();
        };
        Self {
            identity: Identity::of(certificate),
            hosts: Arc::new(identity::hosts(certificate)),
        }
    }
}

/// Lets operators and the Seed in, and no other member of the fleet: what a node shows and does on its meta port is
/// no other node's business.
pub fn operators_only(router: Router) -> Router {
    router.layer(middleware::from_fn(check_operator))
}

async fn check_operator(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerCertificate>();
    match peer.and_then(|peer| peer.identity.as_ref()) {
        Some(Identity::Operator { .. } | Identity::Seed) => next.run(request).await,
        Some(Identity::Node { .. }) | None => {
            let error = ApiError {
                code: "forbidden".to_owned(),
                message: "this is for operators and the Seed; use an operator's certificate"
                    .to_owned(),
            };
            (StatusCode::FORBIDDEN, Json(error)).into_response()
        }
    }
}

impl MemberPort {
    /// Serves until `shutdown`; connections end within [`DRAIN_TIMEOUT`] of it, in `tasks`.
    pub async fn serve(self, tasks: TaskTracker, shutdown: CancellationToken) {
        let server = Arc::new(MemberServer {
            name: self.name,
            acceptor: TlsAcceptor::from(self.tls),
            router: self.router,
            permits: Arc::new(Semaphore::new(self.connections_max)),
            connections_max: self.connections_max,
            shutdown: shutdown.clone(),
        });
        let accepting = AcceptLoop {
            listener: self.listener,
            limits: HANDSHAKES,
            tasks,
            shutdown,
        };
        let serve = |stream, permit| Arc::clone(&server).connection(stream, permit);
        accepting.run(serve).await;
    }
}

/// Parts of a member port that its connections share.
struct MemberServer {
    name: &'static str,
    acceptor: TlsAcceptor,
    router: Router,
    permits: Arc<Semaphore>,
    connections_max: usize,
    shutdown: CancellationToken,
}

impl MemberServer {
    async fn connection(self: Arc<Self>, stream: TcpStream, permit: AdmissionPermit) {
        let port = self.name;
        let from = stream.peer_addr();
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        let handshake = tokio::select! {
            handshake = timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)) => handshake,
            () = permit.revoked() => {
                tracing::debug!(port, from, "a TLS handshake was cut off to make room for newer ones");
                return;
            }
            () = self.shutdown.cancelled() => return,
        };
        drop(permit);
        let Ok(_permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            let most = self.connections_max;
            tracing::warn!(
                port,
                from,
                most,
                "a connection was closed, since the port has as many as it may"
            );
            return;
        };
        match handshake {
            Ok(Ok(stream)) => self.requests(stream, &from).await,
            Ok(Err(error)) => tracing::info!(%error, port, from, "a TLS handshake failed"),
            Err(_) => tracing::info!(port, from, "a TLS handshake took too long and was cut off"),
        }
    }

    async fn requests(&self, stream: TlsStream<TcpStream>, from: &str) {
        let certificates = stream.get_ref().1.peer_certificates();
        let peer = PeerCertificate::of(certificates.and_then(<[_]>::first));
        let service = TowerToHyperService::new(self.router.clone().layer(Extension(peer)));
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES * 4);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                serving.as_mut().graceful_shutdown();
                timeout(DRAIN_TIMEOUT, serving).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = %error, port = self.name, from, "a connection of a member ended with an error");
        }
    }
}

#[cfg(test)]
mod tests;
