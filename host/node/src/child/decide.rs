//! From a decision to a reply. Every decision is checked against the handler's grants first.

use super::{
    app,
    build::{Code, LoadedBuild, Slot},
    forwarded,
    hop::HOP_HEADER,
    metrics::Kind,
    relay::Outbound,
    reply,
    service::Shared,
    upstream::Target,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header, uri::PathAndQuery};
use protoplex_edge::forward;
use protoplex_handler::{Decision, HandlerError};
use protoplex_http::{Answer, Body, Head, Reply};
use protoplex_wire::manifest::Role;
use std::{sync::Arc, time::Duration};

/// How long a relay waits for the first healthy node of a role.
const ROLE_WAIT_MAX: Duration = Duration::from_secs(1);
const HOP: HeaderName = HeaderName::from_static(HOP_HEADER);

/// One request on its way through one build.
pub(super) struct Request<'a> {
    pub(super) head: &'a Head<'a>,
    pub(super) body: Body,
    pub(super) build: &'a Arc<LoadedBuild>,
    /// It carried a build id that a node of this fleet vouched for.
    pub(super) from_our_node: bool,
}

/// Does what a handler decided.
pub(super) fn act(
    shared: &Arc<Shared>,
    slot: &Slot,
    request: Request<'_>,
    decision: Decision,
) -> Answer {
    let head = request.head;
    let (kind, answer) = match decision {
        Decision::Respond(response) => (Kind::Respond, respond(slot, response).map(Answer::Ready)),
        Decision::Redirect(redirect) => {
            (Kind::Redirect, redirect_reply(&redirect).map(Answer::Ready))
        }
        Decision::Asset(asset) => (
            Kind::Asset,
            asset_reply(slot, request.build, head, asset).map(Answer::Ready),
        ),
        Decision::Relay(decision) => (Kind::Relay, relay(shared, slot, request, decision)),
        Decision::App(name) => (Kind::App, app_by_name(shared, slot, request, &name)),
    };
    match answer {
        Ok(answer) => {
            slot.metrics.count(kind);
            answer
        }
        Err(error) => Answer::Ready(shared.failed(slot, &error, head.request_id)),
    }
}

fn refused<T>(text: impl Into<String>) -> Result<T, HandlerError> {
    Err(HandlerError::Refused(text.into()))
}

fn checked_status(status: u16) -> Result<StatusCode, HandlerError> {
    match StatusCode::from_u16(status) {
        Ok(code) if (200..600).contains(&status) => Ok(code),
        _ => refused(format!("{status} is no final status")),
    }
}

fn checked_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HandlerError> {
    match (
        HeaderName::from_bytes(name.as_bytes()),
        HeaderValue::from_str(value),
    ) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => refused(format!(
            "`{name}` is no header name, or its value has control characters"
        )),
    }
}

/// A header that a handler may set: framing and what concerns one connection is the host's.
fn own_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HandlerError> {
    if forward::is_of_the_host(name) {
        return refused(format!(
            "header `{name}` is the host's to set; leave it out"
        ));
    }
    checked_header(name, value)
}

fn respond(slot: &Slot, response: protoplex_handler::Response) -> Result<Reply, HandlerError> {
    let bytes = response.body.len() as u64;
    if bytes > slot.response_bytes_max {
        return Err(HandlerError::ResponseTooLarge {
            bytes,
            max: slot.response_bytes_max,
        });
    }
    let mut reply = Reply::empty(checked_status(response.status)?);
    reply.headers.reserve(response.headers.len());
    for field in &response.headers {
        reply.headers.push(own_header(&field.name, &field.value)?);
    }
    Ok(reply.with_body(response.body))
}

fn redirect_reply(redirect: &protoplex_handler::Redirect) -> Result<Reply, HandlerError> {
    if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
        return refused(format!(
            "{} is no redirect; use 301, 302, 303, 307 or 308",
            redirect.status
        ));
    }
    let (name, value) = checked_header("location", &redirect.location)?;
    Ok(Reply::empty(checked_status(redirect.status)?).with(name, value))
}

fn asset_reply(
    slot: &Slot,
    build: &LoadedBuild,
    head: &Head<'_>,
    decision: protoplex_handler::Asset,
) -> Result<Reply, HandlerError> {
    if !slot
        .grants
        .assets
        .iter()
        .any(|prefix| decision.path.starts_with(prefix.as_str()))
    {
        return refused(format!(
            "asset `{}` is outside grants.assets",
            decision.path
        ));
    }
    let Some(asset) = build.assets.get(&decision.path) else {
        return Ok(reply::status(StatusCode::NOT_FOUND, head.request_id));
    };
    if let Some(status) = decision.status {
        checked_status(status)?;
    }
    let mut reply = protoplex_edge::asset::reply(asset, head, decision.status);
    for field in &decision.headers {
        let (name, value) = own_header(&field.name, &field.value)?;
        reply.headers.retain(|(other, _)| *other != name);
        reply.headers.push((name, value));
    }
    Ok(reply)
}

fn relay(
    shared: &Arc<Shared>,
    slot: &Slot,
    request: Request<'_>,
    decision: protoplex_handler::RelayDecision,
) -> Result<Answer, HandlerError> {
    let head = request.head;
    if !slot.grants.relay.contains(&decision.upstream) {
        return refused(format!(
            "upstream `{}` is not in grants.relay",
            decision.upstream
        ));
    }
    let outbound = outbound(&request, &decision)?;
    let outbound = Outbound {
        body: request.body,
        ..outbound
    };
    let (shared, build) = (Arc::clone(shared), Arc::clone(request.build));
    let request_id = head.request_id.to_owned();
    if let Some(notes) = head.notes {
        notes.write(|noted| noted.upstream.clone_from(&decision.upstream));
    }
    Ok(Answer::Later(Box::pin(async move {
        let sent = async {
            match server(&shared, &build, &decision.upstream).await {
                Some((target, hop)) => {
                    let mut outbound = outbound;
                    outbound.headers.extend(hop.map(|hop| (HOP, hop)));
                    shared.relay.send(target, outbound, &request_id).await
                }
                None => {
                    let upstream = decision.upstream.as_str();
                    tracing::warn!(upstream, request = request_id, "no server to relay to");
                    reply::unavailable(&request_id)
                }
            }
        };
        shared.until_cut(&build, &request_id, sent).await
    })))
}

/// A server of the upstream, and what tells a node of ours the build. A role that nobody serves is waited for: nodes
/// come and go, and the directory is a moment behind.
async fn server(
    shared: &Shared,
    build: &LoadedBuild,
    upstream: &str,
) -> Option<(Target, Option<HeaderValue>)> {
    let Some(role) = upstream.strip_prefix("role:") else {
        return Some((build.upstreams.pick(upstream)?, None));
    };
    let mut fleet = shared.fleet.subscribe();
    let found = async {
        loop {
            let found = {
                let fleet = fleet.borrow_and_update();
                let hop = fleet.hop_key.value(&build.id);
                fleet.pick(role).zip(hop)
            };
            if let Some((target, hop)) = found {
                return Some((target, HeaderValue::from_str(&hop).ok()));
            }
            fleet.changed().await.ok()?;
        }
    };
    tokio::time::timeout(ROLE_WAIT_MAX, found).await.ok()?
}

fn outbound(
    request: &Request<'_>,
    decision: &protoplex_handler::RelayDecision,
) -> Result<Outbound, HandlerError> {
    let head = request.head;
    let method = Method::from_bytes(head.method.as_bytes());
    let path = decision.path.as_deref().unwrap_or(head.path);
    let path = PathAndQuery::try_from(path)
        .ok()
        .filter(|path| path.as_str().starts_with('/'));
    let (Ok(method), Some(path)) = (method, path) else {
        return refused("the path to relay to must start with `/`");
    };
    let mut headers = forwarded::headers(head, request.from_our_node);
    if let Ok(host) = HeaderValue::from_str(head.authority) {
        headers.insert(header::HOST, host);
    }
    for field in &decision.set_headers {
        let (name, value) = own_header(&field.name, &field.value)?;
        headers.insert(name, value);
    }
    for name in &decision.remove_headers {
        headers.remove(name.as_str());
    }
    Ok(Outbound {
        method,
        path,
        headers,
        body: Body::empty(),
    })
}

fn app_by_name(
    shared: &Arc<Shared>,
    slot: &Slot,
    request: Request<'_>,
    name: &str,
) -> Result<Answer, HandlerError> {
    if shared.role != Role::App {
        return refused("`app` decisions are for nodes of role app; relay to `role:app` instead");
    }
    if !slot.grants.apps.iter().any(|granted| granted == name) {
        return refused(format!("app `{name}` is not in grants.apps"));
    }
    match request
        .build
        .handlers
        .iter()
        .position(|slot| slot.name == name)
    {
        Some(index) => run_app(shared, index, request),
        None => refused(format!("the build has no app `{name}`")),
    }
}

/// Runs the app handler at `index` of the request's build.
pub(super) fn run_app(
    shared: &Arc<Shared>,
    index: usize,
    request: Request<'_>,
) -> Result<Answer, HandlerError> {
    let slot = &request.build.handlers[index];
    let Code::App(app) = &slot.code else {
        return refused(format!("`{}` is no app handler", slot.name));
    };
    let (app, shared, build) = (
        Arc::clone(app),
        Arc::clone(shared),
        Arc::clone(request.build),
    );
    let request_id = request.head.request_id.to_owned();
    let inner = app::request(request.head, request.body, request.from_our_node)?;
    Ok(Answer::Later(Box::pin(async move {
        let slot = &build.handlers[index];
        let run = async {
            match app::run(app, inner, Arc::clone(&build)).await {
                Ok(reply) => {
                    slot.metrics.count(Kind::App);
                    reply
                }
                Err(error) => shared.failed(slot, &error, &request_id),
            }
        };
        shared.until_cut(&build, &request_id, run).await
    })))
}
