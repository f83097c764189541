//! The health port: status only, because load balancers present no client certificate.
//!
//! Whoever reaches it can open connections and say nothing. A probe is answered all the same: the newest connection is
//! always let in, and the oldest makes room for it.

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use protoplex_fleet::{
    accept::AcceptLoop,
    admission::{AdmissionLimits, AdmissionPermit},
};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Checks at once: those of some balancers, each from several places. One address may be all that a translated network
/// shows of them, and leaves room for others.
const CONNECTIONS: AdmissionLimits = AdmissionLimits {
    connections_max: 128,
    address_connections_max: 64,
};
/// A check that sends no head by then, or no other one after its answer, is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection is closed after that, whatever it does: a probe makes another one.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);

/// Answers `/healthz` and `/readyz` until the shutdown.
pub(super) async fn serve(
    listener: TcpListener,
    ready: Arc<AtomicBool>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let accepting = AcceptLoop {
        listener,
        limits: CONNECTIONS,
        tasks,
        shutdown: shutdown.clone(),
    };
    let serve = |stream, permit| {
        let answered = connection(stream, permit, Arc::clone(&ready));
        let shutdown = shutdown.clone();
        async move {
            // Whatever it does: the node has drained.
            let _ = shutdown.run_until_cancelled(answered).await;
        }
    };
    accepting.run(serve).await;
}

async fn connection(stream: TcpStream, permit: AdmissionPermit, ready: Arc<AtomicBool>) {
    let service = service_fn(move |request| std::future::ready(answer(&request, &ready)));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    let served = http.serve_connection(TokioIo::new(stream), service);
    // A client that goes away is not worth a line.
    tokio::select! {
        served = tokio::time::timeout(CONNECTION_TIMEOUT, served) => drop(served),
        () = permit.revoked() => {}
    }
}

fn answer(request: &Request<Incoming>, ready: &AtomicBool) -> Result<Response<String>, Infallible> {
    let status = match request.uri().path() {
        "/healthz" => StatusCode::OK,
        "/readyz" if ready.load(Ordering::Relaxed) => StatusCode::OK,
        "/readyz" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(String::new());
    *response.status_mut() = status;
    Ok(response)
}
