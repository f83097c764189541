//! Warm-up: every handler of a build makes an instance, and answers its probe, before the build takes traffic.

use super::{
    build::{Code, LoadedBuild, LoadedHandler},
    decide::{app, check},
};
use http::StatusCode;
use http_body_util::BodyExt;
use protoplex_handler::{BuildFault, HandlerError, warming_up};
use protoplex_http::{Body, Head, HeaderField, Reply, ReplyBody, Scheme, normal};
use protoplex_wire::{
    manifest::{Probe, defaults},
    release::Stage,
};
use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Time in which the bodies of apps' answers are read, all of a build together. One that goes on by then is an event
/// stream, or large, and all right so far. The parent takes a child for stuck that is silent for five seconds.
const BODIES_READ_MAX: Duration = Duration::from_secs(2);

/// Warms all handlers up, by instances that requests cannot take.
///
/// # Errors
/// Stage `warm-up`, naming the handler.
pub(super) async fn warm(build: &Arc<LoadedBuild>) -> Result<(), BuildFault> {
    warming_up(warm_all(build)).await
}

async fn warm_all(build: &Arc<LoadedBuild>) -> Result<(), BuildFault> {
    let mut time_left = BODIES_READ_MAX;
    for handler in &build.handlers {
        let warmed = match &handler.code {
            Code::Edge(edge) => edge.warm().await,
            Code::App(app) => app.warm().await,
            Code::Live(live) => live.warm(),
        };
        warmed.map_err(|error| fault(handler, "made no instance", &error.to_string()))?;
        if let Some(probe) = &build.manifest.handlers[&handler.name].probe {
            let ran = run(build, handler, probe, &mut time_left).await;
            ran.map_err(|why| fault(handler, &probe.path, &why))?;
        }
    }
    Ok(())
}

fn fault(handler: &LoadedHandler, what: &str, why: &str) -> BuildFault {
    BuildFault {
        stage: Stage::WarmUp,
        reason: format!("handler `{}`, {what}: {why}", handler.name),
    }
}

/// Asks a handler as a client would, and looks at all of its answer.
async fn run(
    build: &Arc<LoadedBuild>,
    handler: &LoadedHandler,
    probe: &Probe,
    time_left: &mut Duration,
) -> Result<(), String> {
    let said = |error: HandlerError| error.to_string();
    // Host and path are what a handler would see of a client's request.
    let Ok(path) = normal::path(&probe.path) else {
        return Err("a path with `%00` in it reaches no handler; probe another".to_owned());
    };
    let host = probe.host.as_deref().unwrap_or(defaults::PROBE_HOST);
    let host = normal::authority(host, Scheme::Http);
    let headers = [HeaderField {
        name: "host",
        value: host.as_bytes(),
    }];
    let head = Head {
        method: "GET",
        path: &path,
        authority: &host,
        scheme: Scheme::Http,
        version: 11,
        headers: &headers,
        client: Ipv4Addr::LOCALHOST.into(),
        client_port: 0,
        forwarder: None,
        notes: None,
        request_id: "probe",
        hop: Default::default(),
    };
    let decision = match &handler.code {
        Code::Edge(edge) if edge.is_sync() => edge.decide(&head, &handler.context).map_err(said)?,
        Code::Edge(edge) => {
            let decision = edge.decide_later(&head, &handler.context).await;
            decision.map_err(said)?
        }
        // Nobody is connected for a probe.
        Code::Live(_) => return Ok(()),
        Code::App(app_handler) => {
            let request = app::request(&head, Body::empty(), false).map_err(said)?;
            // A cut is heard of by reading.
            let reply = app::run(Arc::clone(app_handler), request, head.client, |_| {}).await;
            return read(reply.map_err(said)?, time_left).await;
        }
    };
    // Nothing is relayed for a probe.
    match check::check(build, handler, &head, decision).map_err(said)? {
        Some(status) => healthy(status),
        None => Ok(()),
    }
}

fn healthy(status: StatusCode) -> Result<(), String> {
    if status.is_informational() || status.is_server_error() {
        return Err(format!("it answered {}", status.as_u16()));
    }
    Ok(())
}

/// Reads an app's answer to its end, or for as long as there is time left.
async fn read(reply: Reply, time_left: &mut Duration) -> Result<(), String> {
    healthy(reply.status)?;
    let ReplyBody::Stream(mut body) = reply.body else {
        return Ok(());
    };
    let all = async {
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| format!("its body was cut: {error}"))?;
        }
        Ok(())
    };
    let started = Instant::now();
    let read = tokio::time::timeout(*time_left, all).await;
    *time_left = time_left.saturating_sub(started.elapsed());
    read.unwrap_or(Ok(()))
}
