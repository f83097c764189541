//! Health checks: a GET to every server of a group, again and again, the way a client's request would go. Each child
//! checks for itself, since its own way must work.

use super::{
    connect::{Connector, ServerStream},
    servers::Servers,
};
use bytes::Bytes;
use futures::future::join_all;
use http::{Request, StatusCode, Uri, header, uri::Authority};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use protoplex_wire::manifest::HealthCheck;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// `User-Agent` of health checks, for readers of the server's log.
const USER_AGENT: &str = concat!("protoplex-health/", env!("CARGO_PKG_VERSION"));

type ProbeError = Box<dyn std::error::Error + Send + Sync>;

/// Checks the servers of a group until the guard is dropped or `stop` is cancelled. `None` where the upstream wants
/// no checks.
pub(super) fn watch(
    servers: &Arc<Servers>,
    connector: &Arc<Connector>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Option<DropGuard> {
    let check = servers.upstream().health.clone()?;
    let stop = stop.child_token();
    let (servers, connector) = (Arc::clone(servers), Arc::clone(connector));
    let stopped = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = run(&check, &servers, &connector) => {}
        }
    });
    Some(stop.drop_guard())
}

/// Checks all servers, which are few, at the same time. The first check comes after a random part of the interval, so
/// that the children of the fleet do not come in step.
async fn run(check: &HealthCheck, servers: &Servers, connector: &Connector) {
    let interval = Duration::from_millis(check.interval_ms);
    tokio::time::sleep(interval.mul_f64(rand::random())).await;
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        join_all((0..servers.len()).map(|index| async move {
            let authority = servers.authority(index);
            let limit = Duration::from_millis(check.timeout_ms);
            let probed = timeout(limit, probe(check, authority, connector)).await;
            let healthy = match probed {
                Ok(Ok(status)) => status.as_u16() < 400,
                Ok(Err(error)) => {
                    tracing::debug!(server = %authority, %error, "a health check got no response");
                    false
                }
                Err(_) => false,
            };
            servers.probed(index, healthy, std::time::Instant::now());
        }))
        .await;
    }
}

/// Sends one check, on a new connection: whether one can be made is part of the question.
async fn probe(
    check: &HealthCheck,
    server: &Authority,
    connector: &Connector,
) -> Result<StatusCode, ProbeError> {
    let stream = connector.connect(server, None).await?;
    let host = check.host.as_deref().unwrap_or(server.as_str());
    if connector.is_http2(&stream) {
        let scheme = connector.scheme().as_str();
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(host)
            .path_and_query(check.path.as_str())
            .build()?;
        by_http2(stream, request(uri)?).await
    } else {
        let mut request = request(check.path.parse()?)?;
        request.headers_mut().insert(header::HOST, host.parse()?);
        request.headers_mut().insert(
            header::CONNECTION,
            header::HeaderValue::from_static("close"),
        );
        by_http1(stream, request).await
    }
}

fn request(uri: Uri) -> Result<Request<()>, http::Error> {
    Request::get(uri)
        .header(header::USER_AGENT, USER_AGENT)
        .body(())
}

async fn by_http1(stream: ServerStream, request: Request<()>) -> Result<StatusCode, ProbeError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut answer = pin!(sender.send_request(request.map(|()| Empty::<Bytes>::new())));
    tokio::select! {
        biased;
        answer = &mut answer => Ok(answer?.status()),
        ended = connection => {
            ended?;
            // The connection may have brought the response together with its end.
            Ok(answer.await?.status())
        }
    }
}

async fn by_http2(stream: ServerStream, request: Request<()>) -> Result<StatusCode, ProbeError> {
    let (mut sender, connection) = h2::client::handshake(stream).await?;
    let (mut answer, _) = sender.send_request(request, true)?;
    tokio::select! {
        biased;
        answer = &mut answer => Ok(answer?.status()),
        ended = connection => {
            ended?;
            Ok(answer.await?.status())
        }
    }
}
