//! The head of a relayed request: the client's, with the handler's edits.

use super::{edits::Edits, refused::refused};
use crate::build::LoadedHandler;
use base64::Engine as _;
use http::Method;
use protoplex_handler::{HandlerError, decision};
use protoplex_http::{Body, Head, TextBuffer, forward, target, trailers};
use protoplex_upstream::{Outbound, Retry, TimeoutOverrides, UpstreamCounters, key_hash};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// Makes the request that goes out; its body is still to come. `keeps_forwarded` says that a node of ours wrote what tells
/// of the client.
///
/// # Errors
/// The decision sets a path or a header that no request can have.
pub(super) fn outbound(
    handler: &LoadedHandler,
    head: &Head<'_>,
    keeps_forwarded: bool,
    decision: &decision::Relay,
    counters: Arc<UpstreamCounters>,
) -> Result<Outbound, HandlerError> {
    let Ok(method) = Method::from_bytes(head.method.as_bytes()) else {
        return refused("the method is no method");
    };
    let granted = |protocol: &str| {
        handler
            .grants
            .upgrades
            .iter()
            .any(|known| known == protocol)
    };
    let path = match decision.path.as_deref() {
        Some(path) if !target::is_path(path) => {
            return refused(
                "the path to relay to must start with `/` and have no character that must be escaped",
            );
        }
        Some(path) => path,
        None => head.path,
    };
    let mut text = TextBuffer::new();
    for part in [head.method, " ", path, " HTTP/1.1\r\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    let edits = Edits::new(decision)?;
    let host = edits.host().unwrap_or(head.authority);
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
        timeouts: timeouts(decision),
        retry: match decision.retry {
            decision::Retry::Default => Retry::Default,
            decision::Retry::Never => Retry::Never,
            decision::Retry::Always => Retry::Always,
        },
        key: key.map(key_hash),
        client: SocketAddr::new(head.client, head.client_port),
        counters,
    })
}

fn timeouts(decision: &decision::Relay) -> TimeoutOverrides {
    let duration = |ms: Option<u32>| ms.map(|ms| Duration::from_millis(ms.into()));
    let timeouts = decision.timeouts;
    timeouts.map_or_else(TimeoutOverrides::default, |timeouts| TimeoutOverrides {
        first_byte: duration(timeouts.first_byte_ms),
        idle: duration(timeouts.idle_ms),
        total: duration(timeouts.total_ms),
    })
}

/// A key for a handshake of WebSocket: 16 random bytes in base64.
fn websocket_key() -> String {
    base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 16]>())
}

/// Writes a line of a head.
pub(super) fn header_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
