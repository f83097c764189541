//! HTTP/2, by hyper. The same service, the same heads and replies.

use crate::{
    Service,
    identity::{self, RequestIds},
    server::{Counted, Shared},
};
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use protoplex_http::{Answer, Body, BodyError, Head, HeaderField, Reply, ReplyBody, Scheme, StreamError};
use smallvec::SmallVec;
use std::{
    convert::Infallible,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};

/// A silent connection is asked whether it lives, and must answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Flow control: one stream, and all of them.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Streams that a client opened and reset before we looked (rapid reset).
const PENDING_RESETS_MAX: usize = 20;

/// Serves one connection to its end.
pub(crate) async fn serve<S, IO>(shared: &Arc<Shared<S>>, io: IO, scheme: Scheme, client: IpAddr)
where
    S: Service,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ids = Arc::new(Mutex::new(RequestIds::new()));
    let service = service_fn({
        let shared = Arc::clone(shared);
        move |request: Request<Incoming>| {
            let id = ids.lock().next();
            answer(Arc::clone(&shared), request, scheme, client, id)
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(shared.limits.h2_streams_max)
        .max_header_list_size(shared.limits.h2_header_bytes_max)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shared.draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP/2 connection ended badly");
    }
}

async fn answer<S: Service>(
    shared: Arc<Shared<S>>,
    request: Request<Incoming>,
    scheme: Scheme,
    client: IpAddr,
    id: [u8; 16],
) -> Result<Response<OutBody>, Infallible> {
    let _counted = Counted::new(&shared.in_flight);
    let (parts, body) = request.into_parts();
    let answer = {
        let Some((authority, path)) = target(&parts) else {
            let text = format!("authority or path is malformed\nrequest {}\n", identity::text(&id));
            return Ok(response(Reply::text(StatusCode::BAD_REQUEST, text), &id));
        };
        let fields: SmallVec<[HeaderField<'_>; 32]> =
            parts.headers.iter().map(|(name, value)| HeaderField { name: name.as_str(), value: value.as_bytes() }).collect();
        let head = Head {
            method: parts.method.as_str(),
            path,
            authority,
            scheme,
            version: 20,
            headers: &fields,
            client,
            request_id: identity::text(&id),
        };
        let body = if body.is_end_stream() {
            Body::empty()
        } else {
            Body::new(body.map_err(|error| BodyError::Incomplete(error.to_string())))
        };
        catch_unwind(AssertUnwindSafe(|| shared.service.call(&head, body)))
    };
    let reply = match answer {
        Ok(Answer::Ready(reply)) => Ok(reply),
        Ok(Answer::Later(reply)) => AssertUnwindSafe(reply).catch_unwind().await,
        Err(panic) => Err(panic),
    };
    Ok(response(reply.unwrap_or_else(|_| panicked(&id)), &id))
}

/// The one authority and the path. `Host` may repeat the authority, not contradict it.
fn target(parts: &http::request::Parts) -> Option<(&str, &str)> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().ok()?),
        (None, _) => None,
        _ => return None,
    };
    let authority = match (parts.uri.authority().map(http::uri::Authority::as_str), host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => return None,
        (Some(authority), _) => authority,
        (None, host) => host?,
    };
    let path = parts.uri.path_and_query()?.as_str();
    (path.starts_with('/') || path == "*").then_some((authority, path))
}

fn response(reply: Reply, id: &[u8; 16]) -> Response<OutBody> {
    const OF_THE_CONNECTION: [&str; 7] =
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "x-request-id"];
    let announced = reply.headers.iter().find(|(name, _)| *name == header::CONTENT_LENGTH).map(|(_, v)| v.clone());
    let length = match &reply.body {
        ReplyBody::Absent { bytes } => Some(HeaderValue::from(*bytes)),
        ReplyBody::Stream(_) => announced,
        _ => None,
    };
    let mut response = Response::new(OutBody(reply.body));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    for (name, value) in reply.headers {
        if name != header::CONTENT_LENGTH && !OF_THE_CONNECTION.contains(&name.as_str()) {
            headers.append(name, value);
        }
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    if let Ok(id) = HeaderValue::from_bytes(id) {
        headers.insert("x-request-id", id);
    }
    response
}

fn panicked(id: &[u8; 16]) -> Reply {
    let id = identity::text(id);
    tracing::error!(request = id, "the host panicked while it answered a request");
    Reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("500 Internal Server Error\nrequest {id}\n"))
}

/// A reply's body, for hyper.
struct OutBody(ReplyBody);

impl HttpBody for OutBody {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match &mut self.0 {
            ReplyBody::Empty | ReplyBody::Absent { .. } => Poll::Ready(None),
            ReplyBody::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = ReplyBody::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            ReplyBody::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            ReplyBody::Empty | ReplyBody::Absent { .. } => true,
            ReplyBody::Full(bytes) => bytes.is_empty(),
            ReplyBody::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            ReplyBody::Empty => SizeHint::with_exact(0),
            ReplyBody::Absent { .. } => SizeHint::default(),
            ReplyBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ReplyBody::Stream(body) => body.size_hint(),
        }
    }
}
