//! From a decision to a reply. Every decision is checked against the handler's grants first.

mod check;

use super::{
    app,
    build::{Code, LoadedBuild, Slot},
    edits::Edits,
    fleet::FleetTarget,
    hops,
    metrics::DecisionKind,
    origin,
    outlive::{Lifetime, Needs},
    relay,
    relay_grant::{Destination, RelayGrant},
    reply,
    service::ChildContext,
};
use base64::Engine as _;
pub(super) use check::check;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use protoplex_fleet::build_token::BuildToken;
use protoplex_handler::{
    Decision, HandlerError, RelayDecision,
    decision::{Asset as AssetDecision, Redirect, Response},
};
use protoplex_http::{
    Answer, BUILD_HEADER, Body, Head, ORIGIN_HEADER, Reply,
    asset::{self, ServedAsset},
    check_response_head, field, forward, normal, target, trailers,
};
use protoplex_upstream::{
    FailureCause, Group, Outbound, Retry, TimeoutOverrides, UpstreamCounters, key_hash,
};
use protoplex_wire::BuildId;
use std::{
    net::SocketAddr,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

/// Room for a usual head, so that writing it allocates once.
const HEAD_BYTES_GUESS: usize = 1_024;

/// One request on its way through one build.
pub struct Request<'a> {
    /// Its head, with host and path in normal form.
    pub head: &'a Head<'a>,
    /// Its body, of which nothing was read.
    pub body: Body,
    /// The build that decides on it.
    pub build: &'a Arc<LoadedBuild>,
    /// Whether it carried a build id and an origin that a node of this fleet vouched for: what it says of its client
    /// holds.
    pub from_our_node: bool,
}

/// A decision that its handler's grants allow: what is left to do.
enum Allowed {
    /// Everything is there.
    Reply(Reply),
    Relay(RelayDecision),
    /// The app handler at this index of the build.
    App(usize),
}

/// Checks a decision against the handler's grants, and makes the reply where that needs nobody else.
fn allowed(
    slot: &Slot,
    build: &LoadedBuild,
    head: &Head<'_>,
    decision: Decision,
) -> Result<Allowed, HandlerError> {
    Ok(match decision {
        Decision::Respond(response) => Allowed::Reply(respond(slot, response)?),
        Decision::Redirect(redirect) => Allowed::Reply(redirect_reply(&redirect)?),
        Decision::Asset(asset) => Allowed::Reply(asset_reply(slot, build, head, asset)?),
        Decision::Relay(relay) => Allowed::Relay(relay),
        Decision::App(name) => Allowed::App(granted_app(slot, build, &name)?),
    })
}

/// Does what a handler decided.
pub(super) fn act(
    shared: &Arc<ChildContext>,
    slot: &Slot,
    request: Request<'_>,
    decision: Decision,
) -> Answer {
    let (head, kind) = (request.head, DecisionKind::of(&decision));
    let answer = match allowed(slot, request.build, head, decision) {
        Ok(Allowed::Reply(reply)) => Ok(Answer::Ready(reply)),
        Ok(Allowed::Relay(relay)) => relay_to(shared, slot, request, relay),
        Ok(Allowed::App(index)) => app_here(shared, index, request),
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => {
            slot.metrics.count(kind);
            answer
        }
        Err(error) => Answer::Ready(shared.failed(slot, &error, head.request_id)),
    }
}

pub(super) fn refused<T>(text: impl Into<String>) -> Result<T, HandlerError> {
    Err(HandlerError::Refused(text.into()))
}

fn checked_status(status: u16) -> Result<StatusCode, HandlerError> {
    match StatusCode::from_u16(status) {
        Ok(code) if (200..600).contains(&status) => Ok(code),
        _ => refused(format!("{status} is no final status")),
    }
}

/// A header's value without white space at its ends, which is no part of it (RFC 9110, section 5.5).
pub(super) fn trimmed(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

fn checked_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HandlerError> {
    match (
        HeaderName::from_bytes(name.as_bytes()),
        HeaderValue::from_str(trimmed(value)),
    ) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => refused(format!(
            "`{name}` is no header name, or its value has control characters"
        )),
    }
}

/// A header that a handler may set: framing and what concerns one connection is the host's.
pub(super) fn own_header(
    name: &str,
    value: &str,
) -> Result<(HeaderName, HeaderValue), HandlerError> {
    if field::is_of_the_host(name) {
        return refused(format!(
            "header `{name}` is the host's to set; leave it out"
        ));
    }
    checked_header(name, value)
}

fn respond(slot: &Slot, response: Response) -> Result<Reply, HandlerError> {
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
    check_response_head(&reply).map_err(HandlerError::ResponseHead)?;
    Ok(reply.with_body(response.body))
}

fn redirect_reply(redirect: &Redirect) -> Result<Reply, HandlerError> {
    if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
        return refused(format!(
            "{} is no redirect; use 301, 302, 303, 307 or 308",
            redirect.status
        ));
    }
    let (name, value) = checked_header("location", &redirect.location)?;
    let reply = Reply::empty(checked_status(redirect.status)?).with(name, value);
    check_response_head(&reply).map_err(HandlerError::ResponseHead)?;
    Ok(reply)
}

fn asset_reply(
    slot: &Slot,
    build: &LoadedBuild,
    head: &Head<'_>,
    decision: AssetDecision,
) -> Result<Reply, HandlerError> {
    let Some(asset) = granted_asset(slot, build, &decision.path)? else {
        return Ok(reply::status(StatusCode::NOT_FOUND, head.request_id));
    };
    if let Some(status) = decision.status {
        checked_status(status)?;
    }
    let own = decision.headers.iter();
    let own = own.map(|field| own_header(&field.name, &field.value));
    let own = own.collect::<Result<Vec<_>, _>>()?;
    let mut reply = asset::reply(asset, head, decision.status);
    add_to_asset(&mut reply, own);
    check_response_head(&reply).map_err(HandlerError::ResponseHead)?;
    Ok(reply)
}

/// Adds a handler's headers: they replace the asset's of their names, and none of each other. Members of `Vary` are added
/// to the asset's: a cache that forgot that the coding was chosen by the request would give gzip to anybody.
fn add_to_asset(reply: &mut Reply, own: Vec<(HeaderName, HeaderValue)>) {
    let is_vary = |(name, _): &(HeaderName, HeaderValue)| *name == header::VARY;
    let (vary, own): (Vec<_>, Vec<_>) = own.into_iter().partition(is_vary);
    reply
        .headers
        .retain(|(name, _)| !own.iter().any(|(replaced, _)| replaced == name));
    reply.headers.extend(own);
    if vary.is_empty() {
        return;
    }
    let headers = std::mem::take(&mut reply.headers).into_iter();
    let (before, others): (Vec<_>, _) = headers.partition(is_vary);
    reply.headers = others;
    reply
        .headers
        .push((header::VARY, merged_vary(&before, &vary)));
}

/// One list of what both name.
fn merged_vary(
    before: &[(HeaderName, HeaderValue)],
    added: &[(HeaderName, HeaderValue)],
) -> HeaderValue {
    let lines = before.iter().chain(added);
    let members = lines.filter_map(|(_, line)| line.to_str().ok());
    let mut all: Vec<&str> = Vec::new();
    for member in members.flat_map(|line| line.split(',')).map(str::trim) {
        if !member.is_empty() && !all.iter().any(|known| known.eq_ignore_ascii_case(member)) {
            all.push(member);
        }
    }
    // Where nobody may use the response for another request, no more is to be said (RFC 9110, section 12.5.5).
    let any = HeaderValue::from_static("*");
    match all.contains(&"*") {
        true => any,
        false => HeaderValue::from_str(&all.join(", ")).unwrap_or(any),
    }
}

/// The file that a path names, as far as it is granted; `None` where the build has none of that name.
fn granted_asset<'a>(
    slot: &Slot,
    build: &'a LoadedBuild,
    path: &str,
) -> Result<Option<&'a ServedAsset>, HandlerError> {
    let is_granted = |path: &str| {
        let mut granted = slot.grants.assets.iter();
        granted.any(|prefix| path.starts_with(prefix.as_str()))
    };
    if !is_granted(path) {
        return refused(format!("asset `{path}` is outside grants.assets"));
    }
    Ok(build.assets.get(path).or_else(|| {
        // A handler that passes on a request's path passes on its escapes.
        let name = normal::unescape(path).filter(|name| is_granted(name))?;
        build.assets.get(&*name)
    }))
}

fn relay_to(
    shared: &Arc<ChildContext>,
    slot: &Slot,
    request: Request<'_>,
    decision: RelayDecision,
) -> Result<Answer, HandlerError> {
    let head = request.head;
    let grant = Arc::clone(granted_relay(slot, &decision)?);
    let has_connect = slot.grants.upgrades.iter().any(|known| known == "connect");
    if head.method == "CONNECT" && !has_connect {
        // The client's doing, not the handler's. `connect` in grants.upgrades lets it pass.
        let reply = reply::status(StatusCode::METHOD_NOT_ALLOWED, head.request_id);
        return Ok(Answer::Ready(reply));
    }
    let hop_count = hops::next(&request);
    if hop_count.is_none() && grant.is_to_fleet() {
        shared.metrics.loops.fetch_add(1, Relaxed);
        tracing::warn!(
            handler = slot.name,
            upstream = grant.name,
            request = head.request_id,
            "a request goes round in circles among nodes; answered 508. Does a handler relay to its own role?"
        );
        let reply = reply::status(StatusCode::LOOP_DETECTED, head.request_id);
        return Ok(Answer::Ready(reply));
    }
    let counters = Arc::clone(&grant.counters);
    let mut outbound = outbound(slot, &request, &decision, counters)?;
    let set = decision.set_headers.iter().map(|field| &*field.name);
    let removed = decision.remove_headers.iter().map(|name| &**name);
    outbound.body = trailers::without_trailers(request.body, set.chain(removed));
    if grant.is_to_apps() {
        let first_byte = &mut outbound.timeouts.first_byte;
        first_byte.get_or_insert(request.build.first_byte_of_apps);
    }
    let (shared, build) = (Arc::clone(shared), Arc::clone(request.build));
    let request_id = head.request_id.to_owned();
    let relays = hop_count.filter(|_| grant.is_to_fleet());
    let origin = relays.map(|relays| origin::text(head, relays));
    let key = decision.key;
    if let Some(notes) = head.notes {
        notes.write(|noted| noted.upstream.clone_from(&grant.name));
    }
    Ok(Answer::Later(Box::pin(async move {
        let found = group(&shared, &build.id, &grant.to, key.as_deref()).await;
        let Some((group, hop)) = found else {
            outbound.counters.count_request();
            outbound.counters.count_failure(FailureCause::NoServer);
            tracing::warn!(
                upstream = grant.name,
                request = request_id,
                "no server to relay to"
            );
            return reply::unavailable(&request_id);
        };
        let needs = match &grant.to {
            Destination::Fleet(_) => Needs::Nothing,
            Destination::Upstream(_) => Needs::Upstream(Arc::clone(&group)),
            Destination::Server(server) => Needs::Server(server.clone()),
        };
        if hop.is_some() && !outbound.names_host {
            // An app says what it does where it is asked directly; a node's own address is for nobody outside.
            header_line(&mut outbound.head, "host", app::UNNAMED_HOST.as_bytes());
            outbound.names_host = true;
        }
        if let Some((token, origin)) = hop.as_deref().zip(origin) {
            let origin = origin::sign(&origin, token, &outbound.head);
            for (name, value) in [(BUILD_HEADER, token.value()), (ORIGIN_HEADER, &*origin)] {
                header_line(&mut outbound.head, name, value.as_bytes());
            }
        }
        let lifetime = Lifetime::new(&build, needs);
        drop(build);
        let sent = pin!(relay::send(&group, outbound, &request_id));
        shared.until_cut(lifetime, &request_id, sent).await
    })))
}

/// The grant that allows a relay.
fn granted_relay<'a>(
    slot: &'a Slot,
    decision: &RelayDecision,
) -> Result<&'a Arc<RelayGrant>, HandlerError> {
    let mut granted = slot.relays.iter();
    let Some(grant) = granted.find(|grant| grant.name == decision.upstream) else {
        return refused(format!(
            "upstream `{}` is not in grants.relay",
            decision.upstream
        ));
    };
    if grant.needs_key() && decision.key.is_none() {
        return refused(format!(
            "a relay to `{}` needs a key: it says which live node",
            decision.upstream
        ));
    }
    Ok(grant)
}

/// The servers of an upstream, and what tells a node of ours the build.
type Servers = (Arc<Group>, Option<Arc<BuildToken>>);

/// Nodes of the fleet that are not there are waited for.
async fn group(
    shared: &ChildContext,
    build: &BuildId,
    to: &Destination,
    key: Option<&str>,
) -> Option<Servers> {
    let target = match to {
        Destination::Upstream(group) => return Some((Arc::clone(group), None)),
        Destination::Server(server) => return Some((shared.relay.server(server)?, None)),
        Destination::Fleet(target) => target,
    };
    match nodes_now(shared, build, target, key) {
        // On the heap: no request carries what a wait would need.
        None => Box::pin(nodes_later(shared, build, target, key)).await,
        found => found,
    }
}

fn nodes_now(
    shared: &ChildContext,
    build: &BuildId,
    target: &FleetTarget,
    key: Option<&str>,
) -> Option<Servers> {
    let (authority, hop) = {
        let fleet = shared.fleet.borrow();
        (
            fleet.find(target, key).cloned()?,
            fleet.hop_key.make(build, SystemTime::now())?,
        )
    };
    let nodes = match target {
        FleetTarget::Role(role) => shared.relay.role(*role),
        FleetTarget::Live { .. } => None,
    };
    let group = nodes.or_else(|| shared.relay.server(&authority))?;
    Some((group, Some(hop)))
}

async fn nodes_later(
    shared: &ChildContext,
    build: &BuildId,
    target: &FleetTarget,
    key: Option<&str>,
) -> Option<Servers> {
    let mut fleet = shared.fleet.subscribe();
    let now = Instant::now();
    let until = now + fleet.borrow().patience(target, now);
    loop {
        // What came before we listened counts, too.
        if let Some(found) = nodes_now(shared, build, target, key) {
            return Some(found);
        }
        tokio::time::timeout_at(until.into(), fleet.changed())
            .await
            .ok()?
            .ok()?;
    }
}

/// The request as it goes out; the body is still to come.
fn outbound(
    slot: &Slot,
    request: &Request<'_>,
    decision: &RelayDecision,
    counters: Arc<UpstreamCounters>,
) -> Result<Outbound, HandlerError> {
    let head = request.head;
    let Ok(method) = Method::from_bytes(head.method.as_bytes()) else {
        return refused("the method is no method");
    };
    let granted = |protocol: &str| slot.grants.upgrades.iter().any(|known| known == protocol);
    let path = match decision.path.as_deref() {
        Some(path) if !target::is_path(path) => {
            return refused(
                "the path to relay to must start with `/` and have no character that must be escaped",
            );
        }
        Some(path) => path,
        None => head.path,
    };
    let mut text = Vec::with_capacity(HEAD_BYTES_GUESS);
    for part in [head.method, " ", path, " HTTP/1.1\r\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    let edits = Edits::new(decision)?;
    let host = edits.host().unwrap_or(head.authority);
    let keeps_forwarded = request.from_our_node;
    forward::request_lines(&mut text, head, host, keeps_forwarded, |name| {
        edits.covers(name)
    });
    for (name, value) in edits.added() {
        header_line(&mut text, name, value.as_bytes());
    }
    if head.version == 20 && head.hop.upgrade.is_some() {
        // HTTP/2 has no key (RFC 8441, section 5), and HTTP/1.1 servers insist on one.
        header_line(&mut text, "sec-websocket-key", websocket_key().as_bytes());
    }
    let allowed = |protocol: &&str| protocol.eq_ignore_ascii_case("websocket") || granted(protocol);
    let duration = |ms: Option<u32>| ms.map(|ms| Duration::from_millis(ms.into()));
    let key = decision.key.as_deref().map(str::as_bytes);
    Ok(Outbound {
        head: text,
        names_host: !host.is_empty(),
        method,
        body: Body::empty(),
        upgrade: head.hop.upgrade.filter(allowed).map(str::to_owned),
        expects_continue: head.hop.expects_continue,
        takes_trailers: trailers::takes_trailers(head) && !edits.covers("te"),
        interims: head.hop.interims.cloned(),
        timeouts: decision
            .timeouts
            .map_or_else(TimeoutOverrides::default, |timeouts| TimeoutOverrides {
                first_byte: duration(timeouts.first_byte_ms),
                idle: duration(timeouts.idle_ms),
                total: duration(timeouts.total_ms),
            }),
        retry: match decision.retry {
            protoplex_handler::Retry::Default => Retry::Default,
            protoplex_handler::Retry::Never => Retry::Never,
            protoplex_handler::Retry::Always => Retry::Always,
        },
        key: key.map(key_hash),
        client: SocketAddr::new(head.client, head.client_port),
        counters,
    })
}

/// 16 random bytes in base64.
fn websocket_key() -> String {
    base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 16]>())
}

fn header_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn app_here(
    shared: &Arc<ChildContext>,
    index: usize,
    request: Request<'_>,
) -> Result<Answer, HandlerError> {
    if !shared.role.runs_apps {
        return refused("`app` decisions are for nodes of role app; relay to `role:app` instead");
    }
    run_app(shared, index, request)
}

/// The app that a decision names, as far as it is granted.
fn granted_app(slot: &Slot, build: &LoadedBuild, name: &str) -> Result<usize, HandlerError> {
    if !slot.grants.apps.iter().any(|granted| granted == name) {
        return refused(format!("app `{name}` is not in grants.apps"));
    }
    let mut names = build.handlers.iter().map(|slot| &slot.name);
    match names.position(|known| known == name) {
        Some(index) => Ok(index),
        None => refused(format!("the build has no app `{name}`")),
    }
}

/// Runs the app handler at `index` of the request's build.
pub(super) fn run_app(
    shared: &Arc<ChildContext>,
    index: usize,
    request: Request<'_>,
) -> Result<Answer, HandlerError> {
    let slot = Arc::clone(&request.build.handlers[index]);
    let Code::App(app) = &slot.code else {
        return refused(format!("`{}` is no app handler", slot.name));
    };
    let (app, shared) = (Arc::clone(app), Arc::clone(shared));
    let lifetime = Lifetime::new(request.build, Needs::App(Arc::clone(&app)));
    let request_id: Arc<str> = request.head.request_id.into();
    let client = request.head.client;
    let inner = app::request(request.head, request.body, request.from_our_node)?;
    Ok(Answer::Later(Box::pin(async move {
        let cut = {
            let (shared, slot) = (Arc::clone(&shared), Arc::clone(&slot));
            let id = Arc::clone(&request_id);
            move |error: &HandlerError| shared.note_failure(&slot, error, &id)
        };
        let run = pin!(async {
            match app::run(app, inner, client, cut).await {
                Ok(reply) => {
                    slot.metrics.count(DecisionKind::App);
                    reply
                }
                Err(error) => shared.failed(&slot, &error, &request_id),
            }
        });
        shared.until_cut(lifetime, &request_id, run).await
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_handler_replace_those_of_an_asset_and_vary_is_merged() {
        let vary = "accept-encoding";
        for (own, expected) in [
            (
                &[("set-cookie", "a=1"), ("set-cookie", "b=2")][..],
                &[
                    ("etag", "\"x\""),
                    ("vary", vary),
                    ("set-cookie", "a=1"),
                    ("set-cookie", "b=2"),
                ][..],
            ),
            (
                &[("etag", "\"y\""), ("vary", "cookie")],
                &[("etag", "\"y\""), ("vary", "accept-encoding, cookie")],
            ),
            (
                &[("vary", "Accept-Encoding"), ("vary", "cookie, origin")],
                &[
                    ("etag", "\"x\""),
                    ("vary", "accept-encoding, cookie, origin"),
                ],
            ),
            (&[("vary", "*")], &[("etag", "\"x\""), ("vary", "*")]),
        ] {
            let mut reply = Reply::empty(StatusCode::NOT_MODIFIED)
                .with(header::ETAG, HeaderValue::from_static("\"x\""))
                .with(header::VARY, HeaderValue::from_static(vary));
            let own = own
                .iter()
                .map(|(name, value)| checked_header(name, value).expect("it is a header"));
            add_to_asset(&mut reply, own.collect());
            let headers = reply.headers.iter();
            let headers: Vec<_> = headers
                .map(|(name, value)| (name.as_str(), value.to_str().expect("it is text")))
                .collect();
            assert_eq!(headers, expected);
        }
    }
}
