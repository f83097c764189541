//! One attempt of a request by HTTP/2.

use super::{Attempt, FailedAttempt, Group, RelayError, Resend, answered};
use crate::{
    counters::FailureCause,
    deadlines::ResponseDeadlines,
    ending::Ending,
    h2::{Http2Body, Http2Response, Http2SendError, NotTaken, StreamPermit, StreamSender, lines},
    outbound::Outbound,
    servers::{AttemptOutcome, Lease},
    tunnel::tunnel,
};
use bytes::Bytes;
use h2::ext::Protocol;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, uri::Authority};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use protoplex_http::{Body, Reply, ReplyBody, Scheme, check_response_head, field::trim};
use protoplex_http2::{ReceivedBody, StreamIo};
use tokio::time::{Instant, timeout_at};

impl Group {
    /// Sends a request on a stream, and waits for the head of the response. An upgrade goes as an extended CONNECT.
    pub(super) async fn attempt_http2(
        &self,
        handle: StreamPermit,
        lease: Lease,
        attempt: &mut Attempt<'_>,
    ) -> Result<Reply, FailedAttempt> {
        let Attempt {
            request,
            deadlines,
            is_fresh,
            ..
        } = attempt;
        let server = lease.authority().clone();
        let absent = request.body.is_absent();
        let upgrade = request.upgrade.as_deref().filter(|_| handle.is_extended);
        let message = message(request, upgrade, &server, self.connector.scheme());
        let message = message.map_err(|why| malformed(&server, why))?;
        let body = std::mem::replace(&mut request.body, Body::empty());
        let sent = handle.send(message, body, request.interims.as_ref(), deadlines);
        let failed = match sent.await {
            Ok(response) => {
                answered(&lease, request, response.head.status());
                return self
                    .http2_reply(response, request, deadlines, lease)
                    .await
                    .map_err(|why| malformed(&server, why));
            }
            Err(failed) => failed,
        };
        let never = |error, cause| FailedAttempt::new(error, cause, Resend::Never);
        Err(match failed {
            Http2SendError::TooSlow => {
                lease.report(AttemptOutcome::Failed, now());
                let server = server.to_string();
                never(RelayError::TooSlow { server }, FailureCause::Timeout)
            }
            Http2SendError::Client(error) => never(RelayError::Client(error), FailureCause::Client),
            Http2SendError::Malformed(why) => malformed(&server, why),
            Http2SendError::Server {
                cause,
                untaken,
                body,
            } => {
                let whole = absent || body.is_some();
                let resend = match untaken {
                    _ if !whole => Resend::Never,
                    NotTaken::Unknown => Resend::IfRepeatable,
                    NotTaken::Unsent => Resend::Unsent,
                    NotTaken::Gone | NotTaken::Refused => Resend::Refused,
                };
                // The connection ended before the request was on it, as an idle one may, or in good order.
                let parted = matches!(untaken, NotTaken::Unsent | NotTaken::Gone);
                let is_stale = parted && whole && !*is_fresh;
                // GOAWAY is no failure, however often it comes.
                if !is_stale && untaken != NotTaken::Gone {
                    lease.report(AttemptOutcome::Failed, now());
                }
                request.body = body.unwrap_or_else(Body::empty);
                let server = server.to_string();
                let error = RelayError::Broken { server, cause };
                FailedAttempt {
                    is_stale,
                    ..FailedAttempt::new(error, FailureCause::Reset, resend)
                }
            }
        })
    }

    async fn http2_reply(
        &self,
        response: Http2Response,
        request: &mut Outbound,
        deadlines: &mut ResponseDeadlines,
        lease: Lease,
    ) -> Result<Reply, &'static str> {
        let Http2Response {
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
            StreamSender::Tunnel(send) if status.is_success() => {
                switch(&mut reply, request)?;
                let io = StreamIo::new(send, received);
                reply.body = ReplyBody::Tunnel(tunnel(io, Bytes::new(), stream));
                return Ok(reply);
            }
            // The server did not agree to a tunnel: nothing more will be sent.
            StreamSender::Tunnel(_) => StreamSender::Nothing,
            sending => sending,
        };
        let mut received = ReceivedBody::new(received, headers);
        if request.method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
            // Some servers end the stream with an empty frame of data. A reset in answer to that would look like an
            // attack.
            if !received.is_end_stream() {
                let _ = timeout_at(deadlines.for_server(), received.frame()).await;
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
            Ending::new(deadlines.idle, deadlines.total_at),
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

fn malformed(server: &Authority, why: &str) -> FailedAttempt {
    let error = RelayError::Broken {
        server: server.to_string(),
        cause: why.into(),
    };
    FailedAttempt::new(error, FailureCause::Malformed, Resend::Never)
}

/// Turns an accepted extended CONNECT into what HTTP/1.1 says: a 101, and to a WebSocket the proof that the key was
/// read.
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

/// Whether a header asks, by HTTP/1.1, if the server knows WebSockets.
fn is_key(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"sec-websocket-key")
}

/// Makes the head of the request for HTTP/2. `upgrade` is the protocol of an extended CONNECT.
fn message(
    outbound: &Outbound,
    upgrade: Option<&str>,
    server: &Authority,
    scheme: Scheme,
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
        .scheme(scheme.as_str())
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
