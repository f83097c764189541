//! One attempt of a request by HTTP/1.1.

use super::{Attempt, FailedAttempt, Group, RelayError, Resend, answered};
use crate::{
    body::RelayedBody,
    deadlines::ResponseDeadlines,
    ending::Ending,
    exchange::{Http1Exchange, Http1ExchangeError, ServerConnection},
    outbound::Outbound,
    response::{Response, ResponseContext},
    sending::RequestSender,
    servers::{AttemptOutcome, Lease},
};
use http::{HeaderValue, Method, StatusCode, header};
use protoplex_http::{Reply, ReplyBody, check_response_head};
use std::sync::Arc;
use tokio::time::Instant;

impl Group {
    /// Sends a request on a connection, and waits for the head of the response.
    pub(super) async fn attempt_http1(
        &self,
        connection: ServerConnection,
        lease: Lease,
        attempt: &mut Attempt<'_>,
    ) -> Result<Reply, FailedAttempt> {
        let Attempt {
            request,
            head,
            deadlines,
            ..
        } = attempt;
        let is_reused = connection.is_reused;
        let index = lease.index();
        let server = || self.servers.authority(index).to_string();
        let asked = ResponseContext {
            is_head: request.method == Method::HEAD,
        };
        let holds = request.expects_continue;
        let length = request.length();
        let body = std::mem::replace(&mut request.body, protoplex_http::Body::empty());
        let absent = body.is_absent();
        let text = request.http1_head_for(head, lease.authority());
        let sending = RequestSender::new(text, body, length, holds);
        let mut exchange = Http1Exchange::new(connection, sending, asked);
        let failure = match exchange
            .response(deadlines, request.interims.as_ref())
            .await
        {
            Ok(response) => {
                answered(&lease, request, response.status);
                match self.reply(exchange, response, request, deadlines, lease) {
                    Ok(reply) => return Ok(reply),
                    Err(why) => Http1ExchangeError::Malformed(why),
                }
            }
            Err(failure) => {
                if request.names_host {
                    *head = exchange.sending.take_head();
                }
                let body = exchange.sending.untouched_body();
                let whole = absent || body.is_some();
                request.body = body.unwrap_or_else(protoplex_http::Body::empty);
                let (begun, answered) = match &failure {
                    Http1ExchangeError::Ended {
                        begun, answered, ..
                    } => (*begun, *answered),
                    _ => (true, true),
                };
                let has_ended = matches!(failure, Http1ExchangeError::Ended { .. });
                let is_stale = is_reused && whole && !answered && has_ended;
                if !is_stale && !matches!(failure, Http1ExchangeError::Client(_)) {
                    lease.report(AttemptOutcome::Failed, Instant::now().into());
                }
                let resend = match (begun, answered) {
                    _ if !whole => Resend::Never,
                    (false, _) => Resend::Unsent,
                    (true, false) => Resend::IfRepeatable,
                    (true, true) => Resend::Never,
                };
                return Err(FailedAttempt {
                    resend,
                    is_stale,
                    cause: failure.cause(),
                    error: error(failure, server()),
                });
            }
        };
        let cause = failure.cause();
        let error = error(failure, server());
        Err(FailedAttempt::new(error, cause, Resend::Never))
    }

    fn reply(
        &self,
        mut exchange: Http1Exchange,
        response: Response,
        request: &Outbound,
        deadlines: &ResponseDeadlines,
        lease: Lease,
    ) -> Result<Reply, &'static str> {
        let mut reply = Reply::empty(response.status);
        reply.lines = response.lines;
        reply.dated = response.dated;
        check_response_head(&reply)?;
        let switches = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if switches {
            let wanted = request.upgrade.as_deref();
            let given = response.upgrade.as_deref();
            let agreed = wanted
                .zip(given)
                .is_some_and(|(wanted, given)| wanted.eq_ignore_ascii_case(given));
            let Some(protocol) = given.filter(|_| agreed) else {
                return Err("it switches to a protocol that nobody asked for");
            };
            let protocol = HeaderValue::from_str(protocol);
            let protocol = protocol.map_err(|_| "the protocol it switches to is malformed")?;
            reply.headers.push((header::UPGRADE, protocol));
        }
        if response.status == StatusCode::UPGRADE_REQUIRED
            && let Some(Ok(protocols)) = response.upgrade.map(HeaderValue::try_from)
        {
            reply.headers.push((header::UPGRADE, protocols));
        }
        // A server that refused a request may not have read the body, and would take it for the next request.
        let refused_body = exchange.sending.had_body() && response.status.as_u16() >= 400;
        let keep_alive = response.keep_alive && !refused_body && !self.connector.names_client();
        let pool = Arc::clone(&self.pools[lease.index()]);
        if !switches && let Some(body) = exchange.body_at_hand() {
            reply.body = match response.length {
                _ if !body.is_empty() => ReplyBody::Full(body),
                Some(0) => ReplyBody::Empty,
                length => ReplyBody::Absent { bytes: length },
            };
            if keep_alive && exchange.is_over() {
                pool.put_back(exchange.connection);
            }
            return Ok(reply);
        }
        if switches {
            reply.body = ReplyBody::Tunnel(exchange.connection.into_tunnel());
            return Ok(reply);
        }
        let body = RelayedBody::new(
            exchange,
            keep_alive.then_some(pool),
            Ending::new(deadlines.idle, deadlines.total_at),
            lease,
        );
        reply.body = ReplyBody::Relay(Box::new(body));
        Ok(reply)
    }
}

fn error(failure: Http1ExchangeError, server: String) -> RelayError {
    match failure {
        Http1ExchangeError::Ended { cause, .. } => RelayError::Broken { server, cause },
        Http1ExchangeError::Malformed(why) => RelayError::Broken {
            server,
            cause: why.into(),
        },
        Http1ExchangeError::TooSlow => RelayError::TooSlow { server },
        Http1ExchangeError::Client(error) => RelayError::Client(error),
    }
}
