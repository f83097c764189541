//! The health port: status only, because load balancers present no client certificate.

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore};

/// Checks at once.
const CONNECTIONS_MAX: usize = 64;
/// A check that sends no head by then is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers `/healthz` and `/readyz`. Never returns.
pub(super) async fn serve(listener: TcpListener, ready: Arc<AtomicBool>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed on the health port");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let ready = Arc::clone(&ready);
        tokio::spawn(async move {
            let _permit = permit;
            let service = service_fn(move |request| std::future::ready(answer(&request, &ready)));
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT);
            // A client that goes away is not worth a line.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
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
