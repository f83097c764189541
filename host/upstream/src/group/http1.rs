//! One try of a request by HTTP/1.1.

use super::{Failed, Group, RelayError, answered};
use crate::{
    body::Body,
    ending::Ending,
    exchange::{Connection, Exchange, Failure},
    outbound::Outbound,
    patience::Patience,
    response::{Asked, Response},
    sending::Sending,
    servers::{Lease, Outcome},
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use protoplex_http::{Reply, ReplyBody, check_response_head};
use std::sync::Arc;
use tokio::time::Instant;

impl Group {
    /// `head` is the request's; `reused` says that the connection had a request before.
    pub(super) async fn attempt_http1(
        &self,
        connection: Connection,
        lease: Lease,
        request: &mut Outbound,
        patience: &mut Patience,
        (head, reused): (&Bytes, bool),
    ) -> Result<Reply, Failed> {
        let index = lease.index();
        let server = || self.servers.authority(index).to_string();
        let asked = Asked {
            is_head: request.method == Method::HEAD,
        };
        let holds = request.expects_continue;
        let length = request.length();
        let body = std::mem::replace(&mut request.body, protoplex_http::Body::empty());
        let absent = body.is_absent();
        let head = request.http1_head_for(head, lease.authority());
        let sending = Sending::new(head, body, length, holds);
        let mut exchange = Exchange::new(connection, sending, asked);
        let failure = match exchange.response(patience, request.interims.as_ref()).await {
            Ok(response) => {
                answered(&lease, request, response.status);
                match self.reply(exchange, response, request, patience, lease) {
                    Ok(reply) => return Ok(reply),
                    Err(why) => Failure::Malformed(why),
                }
            }
            Err(failure) => {
                let body = exchange.sending.untouched_body();
                let whole = absent || body.is_some();
                request.body = body.unwrap_or_else(protoplex_http::Body::empty);
                let (begun, answered) = match &failure {
                    Failure::Ended {
                        begun, answered, ..
                    } => (*begun, *answered),
                    _ => (true, true),
                };
                let stale =
                    reused && whole && !answered && matches!(failure, Failure::Ended { .. });
                if !stale && !matches!(failure, Failure::Client(_)) {
                    lease.report(Outcome::Failed, Instant::now().into());
                }
                return Err(Failed {
                    unsent: !begun && whole,
                    refused: false,
                    unanswered: !answered && whole,
                    stale,
                    cause: failure.cause(),
                    error: error(failure, server()),
                });
            }
        };
        let cause = failure.cause();
        Err(Failed::of(error(failure, server()), cause, false, false))
    }

    fn reply(
        &self,
        mut exchange: Exchange,
        response: Response,
        request: &Outbound,
        patience: &Patience,
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
        // A server that refused a request may not have read its body, and would take that for the next request.
        let refused_body = exchange.sending.had_body() && response.status.as_u16() >= 400;
        let keep_alive = response.keep_alive && !refused_body && !self.connector.names_visitors();
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
        let body = Body::new(
            exchange,
            keep_alive,
            pool,
            Ending::new(patience.idle, patience.total_at),
            lease,
        );
        reply.body = ReplyBody::Relay(Box::new(body));
        Ok(reply)
    }
}

fn error(failure: Failure, server: String) -> RelayError {
    match failure {
        Failure::Ended { cause, .. } => RelayError::Broken { server, cause },
        Failure::Malformed(why) => RelayError::Broken {
            server,
            cause: why.into(),
        },
        Failure::TooSlow => RelayError::TooSlow { server },
        Failure::Client(error) => RelayError::Client(error),
    }
}
