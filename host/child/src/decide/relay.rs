//! The `relay` decision: to a server of an upstream, or to another node of the fleet.

use super::{
    app,
    outbound::{header_line, outbound},
    refused::refused,
};
use crate::{
    build::LoadedHandler,
    context::ChildContext,
    drain_deadline::{DrainDeadline, Needs},
    hops, origin,
    relay::Servers,
    relay_grant::{Destination, RelayGrant},
    reply,
    request::Request,
};
use http::StatusCode;
use protoplex_handler::{HandlerError, decision};
use protoplex_http::{
    Answer, BUILD_HEADER, BodyError, Head, ORIGIN_HEADER, Reply, RequestId, trailers,
};
use protoplex_upstream::{FailureCause, Group, Outbound, RelayError};
use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use tracing::Instrument;

/// Relays a request, as its handler decided.
///
/// # Errors
/// The grants do not allow it, or the request cannot be written as edited.
pub(super) fn relay(
    context: &Arc<ChildContext>,
    handler: &LoadedHandler,
    request: Request<'_>,
    decision: decision::Relay,
) -> Result<Answer, HandlerError> {
    let head = request.head;
    let grant = Arc::clone(granted(handler, &decision)?);
    let hop_count = hops::next(&request);
    if let Some(reply) = not_relayed(context, handler, head, &grant, hop_count) {
        return Ok(Answer::Ready(reply));
    }
    let counters = Arc::clone(&grant.counters);
    let mut outbound = outbound(handler, head, request.from_our_node, &decision, counters)?;
    let set = decision.set_headers.iter().map(|field| &*field.name);
    let removed = decision.remove_headers.iter().map(|name| &**name);
    outbound.body = trailers::without_trailers(request.body, set.chain(removed));
    if grant.is_to_apps() {
        let first_byte = &mut outbound.timeouts.first_byte;
        first_byte.get_or_insert(request.build.first_byte_of_apps);
    }
    let (context, build) = (Arc::clone(context), Arc::clone(request.build));
    let (tally, request_id) = (request.tally.take(), RequestId::of(head));
    let relays = hop_count.filter(|_| grant.is_to_fleet());
    let origin = relays.map(|relays| origin::text(head, relays));
    let key = decision.key;
    if let Some(notes) = head.notes {
        notes.write(|noted| noted.upstream.clone_from(&grant.name));
    }
    Ok(Answer::Later(Box::pin(async move {
        let found = context
            .servers
            .find(&build.id, &grant.to, key.as_deref())
            .await;
        let Some(Servers { group, token }) = found else {
            outbound.counters.count_request();
            outbound.counters.count_failure(FailureCause::NoServer);
            tracing::warn!(
                upstream = grant.name,
                request = &*request_id,
                "a relay found no server: the directory has no usable node, or no owner of the key; answered 503"
            );
            return tally.counted(reply::unavailable(&request_id));
        };
        let needs = match &grant.to {
            Destination::Fleet(_) => Needs::Nothing,
            Destination::Upstream(_) => Needs::Upstream(Arc::clone(&group)),
            Destination::Server(server) => Needs::Server(server.clone()),
        };
        if token.is_some() && !outbound.names_host {
            // An app says what it does where it is asked directly; a node's own address is for nobody outside.
            header_line(&mut outbound.head, "host", app::UNNAMED_HOST.as_bytes());
            outbound.names_host = true;
        }
        if let Some((token, origin)) = token.as_deref().zip(origin) {
            let origin = origin::sign(&origin, token, &outbound.head);
            for (name, value) in [(BUILD_HEADER, token.value()), (ORIGIN_HEADER, &*origin)] {
                header_line(&mut outbound.head, name, value.as_bytes());
            }
        }
        let deadline = DrainDeadline::new(&build, needs);
        drop(build);
        let span = tracing::debug_span!("capability", capability = "relay", upstream = grant.name);
        let sent = pin!(send(&group, outbound, &request_id).instrument(span));
        tally.counted(deadline.until(&context, &request_id, sent).await)
    })))
}

/// The reply to a request that is not relayed: a CONNECT that the handler does not let pass, or one that goes in circles.
fn not_relayed(
    context: &ChildContext,
    handler: &LoadedHandler,
    head: &Head<'_>,
    grant: &RelayGrant,
    hop_count: Option<u32>,
) -> Option<Reply> {
    let mut upgrades = handler.grants.upgrades.iter();
    if head.method == "CONNECT" && !upgrades.any(|known| known == "connect") {
        // The client's doing, not the handler's. `connect` in grants.upgrades lets it pass.
        return Some(reply::status(
            StatusCode::METHOD_NOT_ALLOWED,
            head.request_id,
        ));
    }
    if hop_count.is_some() || !grant.is_to_fleet() {
        return None;
    }
    context.metrics.loops.fetch_add(1, Relaxed);
    tracing::warn!(
        handler = handler.name,
        upstream = grant.name,
        request = head.request_id,
        "a request goes round in circles among nodes; answered 508. Does a handler relay to its own role?"
    );
    Some(reply::status(StatusCode::LOOP_DETECTED, head.request_id))
}

/// The grant that allows a relay.
pub(super) fn granted<'a>(
    handler: &'a LoadedHandler,
    decision: &decision::Relay,
) -> Result<&'a Arc<RelayGrant>, HandlerError> {
    let mut granted = handler.relays.iter();
    let Some(grant) = granted.find(|grant| *grant.name == *decision.upstream) else {
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

/// Sends the request and answers with the response, or with 502, 503 or 504.
async fn send(group: &Arc<Group>, outbound: Outbound, request_id: &str) -> Reply {
    let sent = if outbound.method == http::Method::CONNECT {
        Box::pin(group.tunnel(outbound)).await
    } else {
        group.send(outbound).await
    };
    sent.unwrap_or_else(|error| {
        tracing::warn!(request = request_id, %error, "a relayed request got no response from its server; answered with an error");
        match error {
            RelayError::Unavailable(_) => reply::unavailable(request_id),
            RelayError::Broken { .. } => reply::status(StatusCode::BAD_GATEWAY, request_id),
            RelayError::TooSlow { .. } => reply::status(StatusCode::GATEWAY_TIMEOUT, request_id),
            RelayError::Client(BodyError::TooSlow) => {
                reply::status(StatusCode::REQUEST_TIMEOUT, request_id)
            }
            RelayError::Client(_) => reply::status(StatusCode::BAD_REQUEST, request_id),
        }
    })
}
