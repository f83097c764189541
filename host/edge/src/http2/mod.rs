//! HTTP/2, by hyper. The same service, the same heads and replies, the same limits.

mod activity;
mod budget;
mod frames;
mod reply;
mod request;
mod switched;
mod watched;

use crate::{
    Cause, Service,
    access::Entry,
    addresses::Turn,
    http1::respond::{self, Asked},
    identity::{self, RequestIds},
    server::{Held, Shared},
    visitor::Peer,
};
use activity::{Activity, Quiet};
use futures::FutureExt;
use http::{Request, Response, StatusCode, request::Parts};
use http_body::Body as HttpBody;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use protoplex_http::{Answer, Body, Head, Hop, Notes, Reply, Scheme};
use std::{
    convert::Infallible,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_util::task::TaskTracker;
use watched::Watched;

/// A silent connection is asked whether it lives, and must answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Flow control: one stream, and all of them.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// How long a client may do nothing after it was told to go.
const GOAWAY_GRACE: Duration = Duration::from_secs(5);

/// Serves one connection to its end.
pub(crate) async fn serve<S, IO>(shared: &Arc<Shared<S>>, io: IO, scheme: Scheme, peer: Peer)
where
    S: Service,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let leaving = peer.leaving.clone();
    let ids = Arc::new(Mutex::new(RequestIds::new()));
    let activity = Activity::new(shared.limits.write_rule());
    let service = service_fn({
        let (shared, activity) = (Arc::clone(shared), activity.clone());
        move |request: Request<Incoming>| {
            let context = Context {
                shared: Arc::clone(&shared),
                stream: activity.stream(),
                scheme,
                peer: peer.clone(),
                id: ids.lock().next(),
            };
            answer(context, request)
        }
    });
    let limits = &shared.limits;
    let mut builder = hyper::server::conn::http2::Builder::new(Tracked(shared.tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits.h2_streams_max)
        .max_header_list_size(limits.h2_header_bytes_max)
        .max_pending_accept_reset_streams(limits.h2.pending_resets_max)
        .max_local_error_reset_streams(limits.h2.error_resets_max)
        .enable_connect_protocol();
    let io = Watched::new(Arc::clone(shared), io, activity.written());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let (unasked, idle) = (limits.first_byte_timeout, limits.idle_timeout);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        quiet = activity.quiet(Instant::now(), unasked, idle) => match quiet {
            Quiet::Idle => {
                shared.counters.count(Cause::Idle);
                None
            }
            // It would not take a goodbye either.
            Quiet::Slow => return shared.counters.count(Cause::SlowReader),
        },
        () = shared.leave(&leaving) => None,
    };
    let ended = if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        let grace = idle.min(GOAWAY_GRACE);
        tokio::select! {
            ended = connection => Some(ended),
            _ = activity.quiet(Instant::now(), grace, grace) => None,
        }
    } else {
        ended
    };
    if let Some(Err(error)) = ended {
        let cause = std::error::Error::source(&error);
        if !cause.is_some_and(|cause| cause.is::<std::io::Error>()) {
            shared.counters.count(Cause::Http2Protocol);
        }
        tracing::debug!(%error, "an HTTP/2 connection ended badly");
    }
}

/// Streams run in tasks that somebody waits for.
#[derive(Clone)]
pub(crate) struct Tracked(pub(crate) TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// What a request comes with.
struct Context<S> {
    shared: Arc<Shared<S>>,
    stream: activity::Stream,
    scheme: Scheme,
    peer: Peer,
    id: [u8; 16],
}

/// What is held until the reply is out.
struct Until {
    _in_flight: Held,
    turn: Option<Turn>,
    /// Only where there is an access log.
    notes: Option<Notes>,
    entry: Option<Entry>,
}

impl Until {
    /// Counts as a request, and no more than that.
    fn beside<S>(shared: &Shared<S>) -> Self {
        Self {
            _in_flight: Held::new(&shared.in_flight),
            turn: None,
            notes: None,
            entry: None,
        }
    }
}

async fn answer<S: Service>(
    context: Context<S>,
    mut request: Request<Incoming>,
) -> Result<Response<reply::Out>, Infallible> {
    let mut held = Until::beside(&context.shared);
    held.notes = context.shared.access_log.as_ref().map(|_| Notes::default());
    let switch = switched::asked(&mut request);
    let (parts, body) = request.into_parts();
    let asked = Asked {
        version: 20,
        is_head: parts.method == http::Method::HEAD,
        is_connect: parts.method == http::Method::CONNECT && switch.is_none(),
        keep_alive: true,
        id: context.id,
    };
    let too_slow = Arc::new(AtomicBool::new(false));
    // What follows an extended CONNECT is the tunnel's.
    let body = if body.is_end_stream() || switch.is_some() {
        Body::empty()
    } else {
        let rule = context.shared.limits.body_rule();
        Body::new(request::Timed::new(body, rule, Arc::clone(&too_slow)))
    };
    let upgrade = switch.as_ref().map(|switch| switch.protocol.as_str());
    let reply = match called(&context, &parts, body, upgrade, &mut held) {
        Answer::Ready(reply) => reply,
        Answer::Later(reply) => AssertUnwindSafe(reply)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| respond::panicked(&asked.id)),
    };
    let reply = if too_slow.load(Relaxed) {
        context.shared.counters.count(Cause::SlowBody);
        let why = "the request's body came too slowly";
        refused(StatusCode::REQUEST_TIMEOUT, why, &asked.id)
    } else {
        respond::conclusive(reply, &asked)
    };
    let mut stream = context.stream;
    if let Some(switch) = switch
        && respond::is_tunnel(&reply)
    {
        return Ok(switched::response(
            &context.shared,
            reply,
            &asked,
            switch,
            stream,
            held,
        ));
    }
    stream.moved(false);
    let entry = held.entry.iter_mut();
    entry.for_each(|entry| entry.status(reply.status));
    Ok(reply::response(reply, &asked, stream, held))
}

/// What is `held` is held until the reply is out.
fn called<S: Service>(
    context: &Context<S>,
    parts: &Parts,
    body: Body,
    upgrade: Option<&str>,
    held: &mut Until,
) -> Answer {
    let refuse = |status, why| Answer::Ready(refused(status, why, &context.id));
    if !request::is_sound(parts) {
        return refuse(StatusCode::BAD_REQUEST, "scheme or header is malformed");
    }
    let Some((authority, path)) = request::target(parts) else {
        return refuse(StatusCode::BAD_REQUEST, "authority or path is malformed");
    };
    let cookies = request::cookies(parts);
    let fields = request::fields(parts, cookies.as_deref());
    if fields.len() > context.shared.limits.headers_max {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return refuse(status, "too many header lines");
    }
    let shared = &context.shared;
    let visitor = context.peer.visitor(context.scheme, &fields, &shared.trust);
    let head = Head {
        // An extended CONNECT is to handlers what a GET with `Upgrade` is.
        method: upgrade.map_or(parts.method.as_str(), |_| "GET"),
        path,
        authority,
        scheme: visitor.scheme,
        version: 20,
        headers: &fields,
        client: visitor.client,
        forwarder: visitor.forwarder,
        request_id: identity::text(&context.id),
        hop: Hop {
            upgrade,
            ..Hop::default()
        },
        notes: held.notes.as_ref(),
    };
    let log = shared.access_log.as_ref().zip(held.notes.as_ref());
    held.entry = log.map(|(log, notes)| Entry::new(log, &head, notes));
    match shared.turn(&context.peer, head.client) {
        Ok(admitted) => held.turn = Some(admitted),
        Err(wait) => return Answer::Ready(respond::too_many(wait, &context.id)),
    }
    catch_unwind(AssertUnwindSafe(|| shared.service.call(&head, body)))
        .unwrap_or_else(|_| Answer::Ready(respond::panicked(&context.id)))
}

fn refused(status: StatusCode, why: &str, id: &[u8; 16]) -> Reply {
    Reply::text(status, format!("{why}\nrequest {}\n", identity::text(id)))
}
