//! Warm-up: every handler of a build makes an instance, and answers its probe, before the build takes traffic.

use super::{
    app,
    build::{Code, LoadedBuild, Slot},
};
use protoplex_handler::{BuildFault, Decision, HandlerError};
use protoplex_http::{Body, Head, HeaderField, Scheme};
use protoplex_wire::{manifest::Probe, release::Stage};
use std::{net::Ipv4Addr, sync::Arc};

/// Where a probe names no host.
const PROBE_HOST: &str = "probe.invalid";

/// Warms all handlers up.
///
/// # Errors
/// Stage `warm-up`, naming the handler.
pub(super) async fn warm(build: &Arc<LoadedBuild>) -> Result<(), BuildFault> {
    for slot in &build.handlers {
        let warmed = match &slot.code {
            Code::Edge(edge) => edge.warm().await,
            Code::App(app) => app.warm().await,
            Code::Live(live) => live.warm(),
        };
        warmed.map_err(|error| fault(slot, "made no instance", &error.to_string()))?;
        let handler = &build.manifest.handlers[&slot.name];
        if let Some(probe) = &handler.probe {
            let status = run(build, slot, probe).await;
            let status = status.map_err(|error| fault(slot, &probe.path, &error.to_string()))?;
            if status >= 500 {
                return Err(fault(slot, &probe.path, &format!("it answered {status}")));
            }
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

async fn run(build: &Arc<LoadedBuild>, slot: &Slot, probe: &Probe) -> Result<u16, HandlerError> {
    let host = probe.host.as_deref().unwrap_or(PROBE_HOST);
    let headers = [HeaderField {
        name: "host",
        value: host.as_bytes(),
    }];
    let head = Head {
        method: "GET",
        path: &probe.path,
        authority: host,
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
    match &slot.code {
        Code::Edge(edge) if edge.is_sync() => edge
            .decide(&head, &slot.context)
            .map(|decision| status(&decision)),
        Code::Edge(edge) => edge
            .decide_later(&head, &slot.context)
            .await
            .map(|decision| status(&decision)),
        // Nobody is connected for a probe.
        Code::Live(_) => Ok(200),
        Code::App(handler) => {
            let request = app::request(&head, Body::empty(), false)?;
            let reply = app::run(Arc::clone(handler), request, Arc::clone(build), |_| {}).await?;
            Ok(reply.status.as_u16())
        }
    }
}

/// A decision other than `respond` is an answer as well; nothing is relayed for a probe.
fn status(decision: &Decision) -> u16 {
    match decision {
        Decision::Respond(response) => response.status,
        Decision::Redirect(redirect) => redirect.status,
        _ => 200,
    }
}
