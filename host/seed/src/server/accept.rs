//! The accept loop: takes a permit, accepts, spawns. It never returns an error.

use super::peer::Peer;
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
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once: one for every node, and operators.
const CONNECTIONS_MAX: usize = 2 * crate::core::NODES_MAX;
/// A peer that has not finished its handshake by then is cut.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Likewise the head of an HTTP/1.1 request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent HTTP/2 connection is asked whether it lives, and must answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// What is in flight at shutdown may take this long.
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
    let accept = async {
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return; // The semaphore is never closed.
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = connection(
                        stream,
                        acceptor.clone(),
                        router.clone(),
                        shutdown.clone(),
                        permit,
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
    _permit: OwnedSemaphorePermit,
) {
    let from = stream
        .peer_addr()
        .map(|a| a.to_string())
        .unwrap_or_default();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let handshake = tokio::select! {
        handshake = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => handshake,
        () = shutdown.cancelled() => return,
    };
    let stream = match handshake {
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
