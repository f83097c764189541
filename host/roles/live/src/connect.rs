//! A request on a route of a live handler: which transport it asks for, and whether the handler lets it in.

use super::{
    Live, Out, PROTOCOL,
    client::{Client, Handle, Opened},
    connection_limits, encode, events, origins, poll,
    websocket::{self, Deflate},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use protoplex_child::{
    build::{Code, LoadedBuild},
    metrics::DecisionKind,
    reply,
    request::Request,
};
use protoplex_handler::{Outcome, Transport};
use protoplex_http::{Answer, Head, HeaderLines, Reply, ReplyBody, Switch};
use protoplex_websocket::{DEFLATE_EXTENSION, Handshake, HandshakeError};
use protoplex_wire::manifest::LiveLimits;
use std::sync::{Arc, atomic::Ordering::Relaxed};

/// Header that names the session in requests with commands, and in long polling.
pub(super) const SESSION_HEADER: &str = "protoplex-session";
/// `poll` asks for long polling.
const TRANSPORT_HEADER: &str = "protoplex-transport";

/// Answers a request on a route whose handler is live.
pub(crate) fn connect(live: &Arc<Live>, index: usize, request: Request<'_>) -> Answer {
    let Ok(allowed) = origins::of_request(&request, request.build) else {
        live.counters.foreign.fetch_add(1, Relaxed);
        return Answer::Ready(origins::refused(request.head));
    };
    match allowed.preflight(request.head) {
        Some(reply) => Answer::Ready(reply),
        None => allowed.on_answer(by_transport(live, index, request)),
    }
}

/// Answers a request of a session that is here, whatever the routes of the build say: a session outlives the one by which
/// it was opened.
///
/// # Errors
/// Gives back any other request.
pub(crate) fn of_session<'a>(
    live: &Arc<Live>,
    request: Request<'a>,
) -> Result<Answer, Request<'a>> {
    let head = request.head;
    let is_poll = head.method == "GET" && wants_poll(head);
    if !is_poll && head.method != "POST" {
        return Err(request);
    }
    let session = head.header_str(SESSION_HEADER);
    let client = session.and_then(|session| live.connections.of_session(session));
    let (Some(session), Some(client)) = (session, client) else {
        return Err(request);
    };
    let (build, handler) = {
        let state = client.state.lock();
        (Arc::clone(&state.build), state.handler().name.clone())
    };
    if let Some(notes) = head.notes {
        notes.write(|noted| {
            noted.handler = handler;
            noted.build = build.id.short();
        });
    }
    let Ok(allowed) = origins::of_request(&request, &build) else {
        live.counters.foreign.fetch_add(1, Relaxed);
        return Ok(Answer::Ready(origins::refused(head)));
    };
    Ok(allowed.on_answer(match is_poll {
        true => poll::next(live, session, head),
        false => poll::commands(live, client, request.body),
    }))
}

fn wants_poll(head: &Head<'_>) -> bool {
    head.header(TRANSPORT_HEADER) == Some(b"poll")
}

fn by_transport(live: &Arc<Live>, index: usize, request: Request<'_>) -> Answer {
    let head = request.head;
    if head
        .hop
        .upgrade
        .is_some_and(|to| to.eq_ignore_ascii_case("websocket"))
    {
        // RFC 6455, section 4.2.1. A stream of HTTP/2 that asks for it counts as GET.
        if head.method != "GET" {
            return Answer::Ready(reply::wrong_method(&["GET"], head.request_id));
        }
        return Answer::Ready(by_websocket(live, index, &request).unwrap_or_else(|reply| reply));
    }
    let wants_poll = wants_poll(head);
    let session = head.header_str(SESSION_HEADER);
    match (head.method, session) {
        // See [`of_session`].
        ("POST", Some(_)) => Answer::Ready(poll::gone()),
        ("GET", Some(_)) if wants_poll => Answer::Ready(poll::gone()),
        ("POST", None) if wants_poll => {
            let opened = open(live, index, &request, Transport::LongPoll, false);
            Answer::Ready(opened.map_or_else(|reply| reply, |handle| poll::begin(live, handle)))
        }
        ("GET", None) if wants_events(head) => {
            let opened = open(live, index, &request, Transport::EventStream, false);
            Answer::Ready(opened.map_or_else(|reply| reply, events::begin))
        }
        _ => Answer::Ready(
            Reply::text(
                StatusCode::UPGRADE_REQUIRED,
                "this is a live route: connect by WebSocket, or ask for text/event-stream\n",
            )
            .with(header::UPGRADE, HeaderValue::from_static("websocket")),
        ),
    }
}

fn wants_events(head: &Head<'_>) -> bool {
    head.header_list("accept").any(|range| {
        let kind = range.split(|&byte| byte == b';').next();
        kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
    })
}

fn by_websocket(live: &Arc<Live>, index: usize, request: &Request<'_>) -> Result<Reply, Reply> {
    let head = request.head;
    let mut headers = HeaderMap::new();
    let of_websocket = |name: &str| {
        name.get(..14)
            .is_some_and(|n| n.eq_ignore_ascii_case("sec-websocket-"))
    };
    for field in head.headers.iter().filter(|field| of_websocket(field.name)) {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            headers.append(name, value);
        }
    }
    let is_extended = head.version == 20;
    let handshake = match is_extended {
        true => Handshake::read_extended(&headers),
        false => Handshake::read(&headers),
    };
    let handshake = handshake.map_err(|fault| {
        let text = |status| Reply::text(status, format!("{fault}\nrequest {}\n", head.request_id));
        match fault {
            HandshakeError::Version => text(StatusCode::UPGRADE_REQUIRED)
                .with(header::UPGRADE, HeaderValue::from_static("websocket"))
                .with(
                    header::SEC_WEBSOCKET_VERSION,
                    HeaderValue::from_static("13"),
                ),
            HandshakeError::Key => text(StatusCode::BAD_REQUEST),
        }
    })?;
    let is_raw = !handshake.protocols.iter().any(|name| name == PROTOCOL);
    let handle = open(live, index, request, Transport::WebSocket, is_raw)?;
    let mut lines = HeaderLines::default();
    if !is_extended {
        lines.push(b"sec-websocket-accept", handshake.accept.as_bytes());
    }
    // A browser that offers some fails where none is chosen.
    let live = request.build.manifest.live.as_ref();
    let known = live.map_or(&[][..], |live| &live.subprotocols);
    let chosen = match is_raw {
        false => Some(PROTOCOL),
        true => handshake
            .protocols
            .iter()
            .map(String::as_str)
            .find(|offered| known.iter().any(|one| one == offered)),
    };
    if let Some(chosen) = chosen {
        lines.push(b"sec-websocket-protocol", chosen.as_bytes());
    }
    if handshake.may_deflate {
        lines.push(b"sec-websocket-extensions", DEFLATE_EXTENSION.as_bytes());
    }
    let deflate = match handshake.may_deflate {
        true => Deflate::Agreed,
        false => Deflate::No,
    };
    let mut reply = Reply::empty(match is_extended {
        true => StatusCode::OK,
        false => StatusCode::SWITCHING_PROTOCOLS,
    });
    if !is_extended {
        reply = reply.with(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    reply.lines = lines;
    reply.body = ReplyBody::Switch(Switch::new(move |switched| {
        websocket::run(handle, switched, deflate)
    }));
    Ok(reply)
}

/// Asks the handler whether it lets a client in. The connection is open until the handle is dropped.
fn open(
    live: &Arc<Live>,
    index: usize,
    request: &Request<'_>,
    transport: Transport,
    is_raw: bool,
) -> Result<Handle, Reply> {
    let (head, build) = (request.head, request.build);
    let loaded = &build.handlers[index];
    let Code::Live(handler) = &loaded.code else {
        return Err(reply::status(
            StatusCode::INTERNAL_SERVER_ERROR,
            head.request_id,
        ));
    };
    let limits = build.manifest.live.as_ref().map(|live| live.limits);
    let limits = limits.unwrap_or_default();
    let share = live
        .admission
        .admit(head.client, handler, head.request_id)?;
    let generation = generation_of(live, build);
    let id = live.hub().open(connection_limits(&limits));
    let opened = handler.opened(id, head, transport, &loaded.context);
    let abandon = |reply| {
        live.apply(|hub, now_ms| hub.close(now_ms, id));
        reply
    };
    let (session, effects) = match opened {
        Ok((session, Outcome::Effects(effects))) => (session, effects),
        Ok((_, Outcome::Refused { status, reason })) => {
            loaded.metrics.count(DecisionKind::LIVE);
            return Err(abandon(refused(status, reason, head.request_id)));
        }
        Err(error) => {
            return Err(abandon(live.child.failed(loaded, &error, head.request_id)));
        }
    };
    loaded.metrics.count(DecisionKind::LIVE);
    let client = Arc::new(Client::new(Opened {
        id,
        transport,
        is_raw,
        address: head.client,
        share,
        build: Arc::clone(build),
        handler_index: index,
        session,
        generation,
    }));
    live.connections.add(&client);
    let handle = Handle {
        live: Arc::clone(live),
        client,
    };
    handle.welcome(effects, &limits);
    live.send_away_if_draining(&handle.client);
    Ok(handle)
}

/// The generation of a connection that is opened on a build. On a build before the active one it is an older one, so that
/// the connection moves like those that were there at the switch.
fn generation_of(live: &Live, build: &Arc<LoadedBuild>) -> u64 {
    // Read first: of a switch in between, one of the two tells.
    let generation = live.generation.load(Relaxed);
    match live.child.builds.now().is_past(build) {
        true => generation.wrapping_sub(1),
        false => generation,
    }
}

impl Handle {
    /// Queues the welcome, and does what the handler asked for when it let the client in.
    fn welcome(&self, effects: Vec<protoplex_handler::Effect>, limits: &LiveLimits) {
        let (live, client) = (self.live(), &self.client);
        let mut state = client.state.lock();
        if !client.is_raw {
            let user = effects.iter().find_map(|effect| match effect {
                protoplex_handler::Effect::User(user) => Some(user.as_str()),
                _ => None,
            });
            let welcome = encode::welcome(client.session_id.as_deref(), user, limits);
            live.queue(client, Out::Object(welcome));
        }
        live.act(client, &mut state, effects);
        state.is_new = false;
        // A hop may have brought it to a build that was switched away from; whoever goes through all connections has
        // been there.
        live.follow_build(client, &mut state);
    }
}

fn refused(status: u16, reason: String, request_id: &str) -> Reply {
    let status = StatusCode::from_u16(status).ok();
    let status = status.filter(|status| status.is_client_error() || status.is_server_error());
    let status = status.unwrap_or(StatusCode::FORBIDDEN);
    Reply::text(status, format!("{reason}\nrequest {request_id}\n"))
}
