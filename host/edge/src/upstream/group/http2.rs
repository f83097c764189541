//! One try of a request by HTTP/2.

use super::{Failed, Group, RelayError, answered};
use crate::{
    forward::is_hop_by_hop,
    server::Held,
    upstream::{
        counters::Cause,
        ending::Ending,
        h2::{Handle, Http2Body, SendError},
        outbound::Outbound,
        servers::{Lease, Outcome},
    },
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
    uri::Authority,
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use protoplex_http::{Body, BodyError, Lines, Reply, ReplyBody};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

impl Group {
    pub(super) async fn attempt_http2(
        &self,
        handle: Handle,
        lease: Lease,
        request: &mut Outbound,
        (deadline, total_at): (Instant, Option<Instant>),
        fresh: bool,
    ) -> Result<Reply, Failed> {
        let server = lease.authority().clone();
        let absent = request.body.is_absent();
        let is_head = request.method == Method::HEAD;
        let own = Duration::from_millis(self.upstream.idle_timeout_ms);
        let idle = request.timeouts.idle.unwrap_or(own);
        let (sent, watch) = match message(request, &server, self.connector.is_tls()) {
            Ok(message) => message,
            Err(why) => return Err(malformed(&server, why)),
        };
        match timeout_at(deadline, handle.send(sent)).await {
            Ok(Ok((response, stream))) => {
                answered(&lease, request, response.status());
                self.http2_reply(response, stream, is_head, (deadline, idle, total_at), lease)
                    .await
                    .map_err(|why| malformed(&server, why))
            }
            Ok(Err(failed)) => {
                if let Some(error) = watch.lock().take() {
                    let error = RelayError::Client(error);
                    return Err(Failed::of(error, Cause::Client, false, false));
                }
                let SendError {
                    cause,
                    unsent,
                    refused,
                } = failed;
                // The connection ended before the request was on it, as an idle one may.
                let stale = unsent.is_some() && !fresh;
                if !stale {
                    lease.report(Outcome::Failed, now());
                }
                let never_acted = refused || unsent.is_some();
                // A body that hyper has taken is gone with it.
                let whole = absent || unsent.is_some();
                if let Some(unsent) = unsent {
                    request.body = unsent.into_body();
                }
                let server = server.to_string();
                let error = RelayError::Broken { server, cause };
                Err(Failed {
                    stale,
                    ..Failed::of(error, Cause::Reset, never_acted && whole, whole)
                })
            }
            Err(_) => {
                lease.report(Outcome::Failed, now());
                let server = server.to_string();
                let error = RelayError::TooSlow { server };
                Err(Failed::of(error, Cause::Timeout, false, false))
            }
        }
    }

    async fn http2_reply(
        &self,
        response: Response<Incoming>,
        stream: Held,
        is_head: bool,
        (deadline, idle, total_at): (Instant, Duration, Option<Instant>),
        lease: Lease,
    ) -> Result<Reply, &'static str> {
        let (parts, mut incoming) = response.into_parts();
        if parts.status.is_informational() {
            return Err("it switches protocols, which HTTP/2 has not");
        }
        let mut reply = Reply::empty(parts.status);
        reply.dated = parts.headers.contains_key(header::DATE);
        reply.lines = lines(&parts.headers);
        let bodiless = is_head || parts.status == StatusCode::NOT_MODIFIED;
        if bodiless {
            // Some end the stream by an empty frame of data; to reset it for that would look like an attack.
            if !incoming.is_end_stream() {
                let _ = timeout_at(deadline, incoming.frame()).await;
            }
            let length = parts.headers.get(header::CONTENT_LENGTH);
            let bytes = length.and_then(|value| value.to_str().ok()?.parse().ok());
            reply.body = ReplyBody::Absent { bytes };
            return Ok(reply);
        }
        if incoming.is_end_stream() {
            return Ok(reply);
        }
        let body = Http2Body::new(incoming, Ending::new(idle, total_at), stream, lease);
        reply.body = ReplyBody::Relay(Box::new(body));
        Ok(reply)
    }
}

fn now() -> std::time::Instant {
    Instant::now().into()
}

fn malformed(server: &Authority, why: &str) -> Failed {
    let error = RelayError::Broken {
        server: server.to_string(),
        cause: why.into(),
    };
    Failed::of(error, Cause::Malformed, false, false)
}

/// The error of the client's body, if it came to that.
type Watch = Arc<Mutex<Option<BodyError>>>;

/// The request as HTTP/2 has it. Its body is taken out of `outbound`.
fn message(
    outbound: &mut Outbound,
    server: &Authority,
    is_tls: bool,
) -> Result<(Request<Body>, Watch), &'static str> {
    let (path, lines) = outbound.parts();
    let mut headers = HeaderMap::new();
    let mut authority = None;
    for (name, value) in lines {
        if name.eq_ignore_ascii_case(b"host") {
            authority = Authority::try_from(value).ok();
            continue;
        }
        let name = HeaderName::from_bytes(name).map_err(|_| "a header has no name")?;
        let value = HeaderValue::from_bytes(value).map_err(|_| "a header has no value")?;
        headers.append(name, value);
    }
    let uri = Uri::builder()
        .scheme(if is_tls { "https" } else { "http" })
        .authority(authority.unwrap_or_else(|| server.clone()))
        .path_and_query(path)
        .build()
        .map_err(|_| "the path is none of HTTP/2")?;
    let body = std::mem::replace(&mut outbound.body, Body::empty());
    let watch = Watch::default();
    let body = if body.is_absent() {
        body
    } else {
        let watch = Arc::clone(&watch);
        Body::new(Watched { body, watch })
    };
    let mut request = Request::new(body);
    *request.method_mut() = outbound.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok((request, watch))
}

fn lines(headers: &HeaderMap) -> Lines {
    let bytes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    let mut lines = Lines::with_capacity(bytes.sum());
    for (name, value) in headers {
        if !is_hop_by_hop(name.as_str()) && name != "x-request-id" {
            lines.push(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    lines
}

/// Remembers why the client's body ended: hyper tells that a stream was reset, and not by whose fault.
struct Watched {
    body: Body,
    watch: Watch,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Err(error))) = &polled {
            *self.watch.lock() = Some(error.clone());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
