//! Warm-up: every handler of a build makes an instance, and answers its probe, before the build takes traffic.

use super::{
    app,
    build::{Code, LoadedBuild, Slot},
    decide,
};
use http::StatusCode;
use http_body_util::BodyExt;
use protoplex_handler::{BuildFault, HandlerError, warming_up};
use protoplex_http::{Body, Head, HeaderField, Reply, ReplyBody, Scheme, normal};
use protoplex_wire::{manifest::Probe, release::Stage};
use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Where a probe names no host.
const PROBE_HOST: &str = "probe.invalid";
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
    let mut patience = BODIES_READ_MAX;
    for slot in &build.handlers {
        let warmed = match &slot.code {
            Code::Edge(edge) => edge.warm().await,
            Code::App(app) => app.warm().await,
            Code::Live(live) => live.warm(),
        };
        warmed.map_err(|error| fault(slot, "made no instance", &error.to_string()))?;
        let handler = &build.manifest.handlers[&slot.name];
        if let Some(probe) = &handler.probe {
            let ran = run(build, slot, probe, &mut patience).await;
            ran.map_err(|why| fault(slot, &probe.path, &why))?;
        }
    }
    Ok(())
}

fn fault(slot: &Slot, what: &str, why: &str) -> BuildFault {
    BuildFault {
        stage: Stage::WarmUp,
        reason: format!("handler `{}`, {what}: {why}", slot.name),
    }
}

/// Asks a handler as a client would, and looks at all of its answer.
async fn run(
    build: &Arc<LoadedBuild>,
    slot: &Slot,
    probe: &Probe,
    patience: &mut Duration,
) -> Result<(), String> {
    let said = |error: HandlerError| error.to_string();
    // Host and path are what a handler would see of a client's request.
    let Ok(path) = normal::path(&probe.path) else {
        return Err("a path with `%00` in it reaches no handler; probe another".to_owned());
    };
    let host = probe.host.as_deref().unwrap_or(PROBE_HOST);
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
    let decision = match &slot.code {
        Code::Edge(edge) if edge.is_sync() => edge.decide(&head, &slot.context).map_err(said)?,
        Code::Edge(edge) => {
            let decision = edge.decide_later(&head, &slot.context).await;
            decision.map_err(said)?
        }
        // Nobody is connected for a probe.
        Code::Live(_) => return Ok(()),
        Code::App(handler) => {
            let request = app::request(&head, Body::empty(), false).map_err(said)?;
            // A cut is heard of by reading.
            let reply = app::run(Arc::clone(handler), request, head.client, |_| {}).await;
            return read(reply.map_err(said)?, patience).await;
        }
    };
    // Nothing is relayed for a probe.
    match decide::check(build, slot, &head, decision).map_err(said)? {
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

/// Reads an app's answer to its end, or as long as there is patience left.
async fn read(reply: Reply, patience: &mut Duration) -> Result<(), String> {
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
    let read = tokio::time::timeout(*patience, all).await;
    *patience = patience.saturating_sub(started.elapsed());
    read.unwrap_or(Ok(()))
}
