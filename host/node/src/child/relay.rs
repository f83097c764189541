//! Relaying to an upstream over HTTP/1.1 with keep-alive. No retry. Bodies stream both ways.

use super::{reply, upstream::Target};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header, uri::PathAndQuery};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use protoplex_edge::forward;
use protoplex_http::{Body, Reply, ReplyBody};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Sleep;

/// Until connected.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle connections kept to one server.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// An idle connection is closed after this: below the 75 s at which our own nodes close theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The connections of a child to its upstreams.
#[derive(Clone)]
pub(super) struct Relay(Client<HttpConnector, Body>);

/// A request as it goes out.
pub(super) struct Outbound {
    pub(super) method: http::Method,
    pub(super) path: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

impl Relay {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let mut client = Client::builder(TokioExecutor::new());
        client
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT);
        Self(
            client
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .build(connector),
        )
    }

    /// Sends the request and answers with the upstream's response, or with 502 or 504.
    pub(super) async fn send(&self, target: Target, outbound: Outbound, request_id: &str) -> Reply {
        let uri = Uri::builder()
            .scheme("http")
            .authority(target.authority.clone())
            .path_and_query(outbound.path);
        let mut request = Request::new(outbound.body);
        *request.method_mut() = outbound.method;
        *request.uri_mut() = uri.build().expect("all three parts were parsed before");
        *request.headers_mut() = outbound.headers;
        match tokio::time::timeout(target.timeouts.first_byte, self.0.request(request)).await {
            Ok(Ok(response)) => answer(response, target.timeouts.idle),
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error)
                    .map(ToString::to_string)
                    .unwrap_or_default();
                tracing::warn!(upstream = %target.authority, request = request_id, %error, cause, "the upstream failed");
                reply::status(StatusCode::BAD_GATEWAY, request_id)
            }
            Err(_) => {
                let timeout_ms = target.timeouts.first_byte.as_millis();
                tracing::warn!(upstream = %target.authority, request = request_id, timeout_ms, "no answer in time");
                reply::status(StatusCode::GATEWAY_TIMEOUT, request_id)
            }
        }
    }
}

fn answer(response: http::Response<Incoming>, idle: Duration) -> Reply {
    let (mut parts, body) = response.into_parts();
    let length = parts.headers.get(header::CONTENT_LENGTH).cloned();
    forward::strip_hop_by_hop(&mut parts.headers);
    parts.headers.remove("x-request-id");
    if let Some(length) = length {
        parts.headers.insert(header::CONTENT_LENGTH, length);
    }
    let mut reply = Reply::empty(parts.status);
    let mut last = None;
    for (name, value) in parts.headers {
        last = name.or(last);
        if let Some(name) = &last {
            reply.headers.push((name.clone(), value));
        }
    }
    reply.body = ReplyBody::Stream(IdleLimited::new(body, idle).boxed_unsync());
    reply
}

/// A body whose frames must not be further apart than a limit.
struct IdleLimited {
    inner: Incoming,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
}

impl IdleLimited {
    fn new(inner: Incoming, limit: Duration) -> Self {
        Self {
            inner,
            limit,
            timer: Box::pin(tokio::time::sleep(limit)),
        }
    }
}

impl HttpBody for IdleLimited {
    type Data = Bytes;
    type Error = protoplex_http::StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            let deadline = tokio::time::Instant::now() + self.limit;
            self.timer.as_mut().reset(deadline);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match self.timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the upstream's body stopped".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
