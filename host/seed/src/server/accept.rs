//! The accept loop: takes a permit, accepts, spawns. It never returns an error.

use super::{
    crowd::{Crowd, CrowdLimits, Member},
    peer::Peer,
};
use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once that have shown a certificate: one for every node, and operators.
const CONNECTIONS_MAX: usize = 2 * crate::core::NODES_MAX;
/// Connections that have not: a whole fleet comes back at once after the Seed was away, and each of them takes a round
/// trip or two.
const HANDSHAKES: CrowdLimits = CrowdLimits {
    connections_max: 1_024,
    address_connections_max: 128,
};
/// A peer that has not finished its handshake by then is cut.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A client that has not sent the head of an HTTP/1.1 request by then is cut.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent HTTP/2 connection is asked whether it lives, and must answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Requests in flight at shutdown may take this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// After an accept that failed (no file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Streams of one connection: a node fetches some blobs beside its link.
const STREAMS_MAX: u32 = 256;
/// Flow control window of one stream: uploads should not wait for round trips.
const WINDOW_BYTES: u32 = 2 << 20;

pub(super) async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let handshakes = Crowd::new(HANDSHAKES);
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let connection = connection(
                        stream,
                        acceptor.clone(),
                        router.clone(),
                        shutdown.clone(),
                        (handshakes.enter(peer.ip()), Arc::clone(&permits)),
                    );
                    tasks.spawn(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown.cancelled() => {}
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    shutdown: CancellationToken,
    (handshake, permits): (Member, Arc<Semaphore>),
) {
    let from = stream
        .peer_addr()
        .map(|a| a.to_string())
        .unwrap_or_default();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let shaken = tokio::select! {
        shaken = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => shaken,
        () = handshake.shed() => {
            tracing::debug!(from, "a handshake made room for newer ones");
            return;
        }
        () = shutdown.cancelled() => return,
    };
    drop(handshake);
    let Ok(_permit) = permits.try_acquire_owned() else {
        tracing::warn!(
            from,
            most = CONNECTIONS_MAX,
            "too many connections; one was closed"
        );
        return;
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(%error, from, "a handshake failed");
            return;
        }
        Err(_) => {
            tracing::info!(from, "a handshake took too long");
            return;
        }
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let peer = Peer::of(certificates.and_then(<[_]>::first));
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
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
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            timeout(DRAIN_TIMEOUT, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, from, "a connection ended");
    }
}
