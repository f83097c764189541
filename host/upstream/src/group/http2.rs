//! One try of a request by HTTP/2.

use super::{Failed, Group, RelayError, answered};
use crate::{
    counters::Cause,
    ending::Ending,
    h2::{Answered, Handle, Http2Body, SendError, Sending, Untaken, lines},
    outbound::Outbound,
    patience::Patience,
    servers::{Lease, Outcome},
    tunnel::tunnel,
};
use bytes::Bytes;
use h2::ext::Protocol;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, uri::Authority};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use protoplex_http::{Body, Reply, ReplyBody, check_response_head, field::trim};
use protoplex_http2::{Received, StreamIo};
use tokio::time::{Instant, timeout_at};

impl Group {
    /// `extended`: the server takes an extended CONNECT for what HTTP/1.1 calls an upgrade.
    pub(super) async fn attempt_http2(
        &self,
        handle: Handle,
        lease: Lease,
        request: &mut Outbound,
        patience: &mut Patience,
        fresh: bool,
        extended: bool,
    ) -> Result<Reply, Failed> {
        let server = lease.authority().clone();
        let absent = request.body.is_absent();
        let upgrade = request.upgrade.as_deref().filter(|_| extended);
        let message = message(request, upgrade, &server, self.connector.is_tls());
        let message = message.map_err(|why| malformed(&server, why))?;
        let body = std::mem::replace(&mut request.body, Body::empty());
        let sent = handle.send(message, body, request.interims.as_ref(), patience);
        let failed = match sent.await {
            Ok(response) => {
                answered(&lease, request, response.head.status());
                return self
                    .http2_reply(response, request, patience, lease)
                    .await
                    .map_err(|why| malformed(&server, why));
            }
            Err(failed) => failed,
        };
        match failed {
            SendError::TooSlow => {
                lease.report(Outcome::Failed, now());
                let server = server.to_string();
                let error = RelayError::TooSlow { server };
                Err(Failed::of(error, Cause::Timeout, false, false))
            }
            SendError::Client(error) => {
                let error = RelayError::Client(error);
                Err(Failed::of(error, Cause::Client, false, false))
            }
            SendError::Malformed(why) => Err(malformed(&server, why)),
            SendError::Server {
                cause,
                untaken,
                body,
            } => {
                let whole = absent || body.is_some();
                let never_acted = untaken != Untaken::Unknown && whole;
                // The connection ended before the request was on it, as an idle one may, or in good order.
                let parted = matches!(untaken, Untaken::Unsent | Untaken::Gone);
                let stale = parted && never_acted && !fresh;
                // A goodbye is no failure, however often it comes.
                if !stale && untaken != Untaken::Gone {
                    lease.report(Outcome::Failed, now());
                }
                request.body = body.unwrap_or_else(Body::empty);
                let server = server.to_string();
                let error = RelayError::Broken { server, cause };
                Err(Failed {
                    stale,
                    refused: matches!(untaken, Untaken::Gone | Untaken::Refused),
                    ..Failed::of(error, Cause::Reset, never_acted, whole)
                })
            }
        }
    }

    async fn http2_reply(
        &self,
        response: Answered,
        request: &mut Outbound,
        patience: &mut Patience,
        lease: Lease,
    ) -> Result<Reply, &'static str> {
        let Answered {
            head,
            received,
            sending,
            stream,
        } = response;
        let (status, headers) = (head.status(), head.headers());
        let mut reply = Reply::empty(status);
        reply.dated = headers.contains_key(header::DATE);
        reply.lines = lines(headers);
        check_response_head(&reply)?;
        let sending = match sending {
            Sending::Tunnel(send) if status.is_success() => {
                switch(&mut reply, request)?;
                let io = StreamIo::new(send, received);
                reply.body = ReplyBody::Tunnel(tunnel(io, Bytes::new(), stream));
                return Ok(reply);
            }
            // It is none: nothing more will be said.
            Sending::Tunnel(_) => Sending::Nothing,
            sending => sending,
        };
        let mut received = Received::new(received, headers);
        if request.method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
            // Some end the stream by an empty frame of data; to reset it for that would look like an attack.
            if !received.is_end_stream() {
                let _ = timeout_at(patience.for_server(), received.frame()).await;
            }
            let length = headers.get(header::CONTENT_LENGTH);
            let bytes = length.and_then(|value| value.to_str().ok()?.parse().ok());
            reply.body = ReplyBody::Absent { bytes };
            return Ok(reply);
        }
        if received.is_end_stream() {
            return Ok(reply);
        }
        let body = Http2Body::new(
            received,
            sending,
            Ending::new(patience.idle, patience.total_at),
            stream,
            lease,
        );
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

/// The reply as HTTP/1.1 has it, where agreeing to a protocol is a 101, and to a WebSocket a proof besides.
fn switch(reply: &mut Reply, request: &Outbound) -> Result<(), &'static str> {
    let protocol = request.upgrade.as_deref().unwrap_or_default();
    let protocol = HeaderValue::from_str(protocol).map_err(|_| "a protocol has no name")?;
    reply.status = StatusCode::SWITCHING_PROTOCOLS;
    reply.headers.push((header::UPGRADE, protocol));
    let mut lines = request.parts().1;
    if let Some((_, key)) = lines.find(|(name, _)| is_key(name)) {
        let proof = protoplex_websocket::accept(key);
        reply.lines.push(b"sec-websocket-accept", proof.as_bytes());
    }
    Ok(())
}

/// Whether that header is HTTP/1.1's question whether a server knows WebSockets.
fn is_key(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"sec-websocket-key")
}

/// The head as HTTP/2 has it.
fn message(
    outbound: &Outbound,
    upgrade: Option<&str>,
    server: &Authority,
    is_tls: bool,
) -> Result<Request<()>, &'static str> {
    let (path, lines) = outbound.parts();
    let mut request = Request::new(());
    let headers = request.headers_mut();
    let mut authority = None;
    for (name, value) in lines {
        if name.eq_ignore_ascii_case(b"host") {
            authority = Authority::try_from(value).ok();
            continue;
        }
        if upgrade.is_some() && is_key(name) {
            continue;
        }
        let name = HeaderName::from_bytes(name).map_err(|_| "a header has no name")?;
        let value = HeaderValue::from_bytes(trim(value));
        let value = value.map_err(|_| "a header has no value")?;
        headers.append(name, value);
    }
    let length = outbound.announced_length().filter(|_| upgrade.is_none());
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if outbound.takes_trailers && upgrade.is_none() {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let uri = Uri::builder()
        .scheme(if is_tls { "https" } else { "http" })
        .authority(authority.unwrap_or_else(|| server.clone()))
        .path_and_query(path)
        .build();
    *request.uri_mut() = uri.map_err(|_| "the path is none of HTTP/2")?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.method_mut() = outbound.method.clone();
    if let Some(protocol) = upgrade {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from(protocol));
    }
    Ok(request)
}
