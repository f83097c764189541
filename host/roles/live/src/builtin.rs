//! Paths that every live node answers by itself, below `/_live/`: the client for pages, and the HTTP API for back ends.

use super::{
    Live,
    arguments::{ChannelArguments, PublishArguments},
    commands::{is_channel, no_channel},
    encode,
    error_code::ErrorCode,
    origins::Allowed,
    watch::{Change, Registration},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, Limited};
use protoplex_channels::{Answer, Refusal};
use protoplex_child::reply;
use protoplex_handler::NAME_BYTES_MAX;
use protoplex_http::{Answer as HttpAnswer, Body, Head, Reply, ReplyBody, StreamError};
use serde_json::{Value, json};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Interval, MissedTickBehavior, interval},
};

/// Prefix of all these paths.
pub(crate) const PREFIX: &str = "/_live/";
/// The client library for pages.
const CLIENT: &str = include_str!("client.js");
/// Messages of one request.
const BATCH_MAX: usize = 1_000;
/// Bytes of one request: a batch of common messages.
const BODY_BYTES_MAX: usize = 4 << 20;

/// The answer to a request below the prefix, on a live node; on others, to back ends that want to hear of a key.
pub(crate) fn answer(live: &Arc<Live>, head: &Head<'_>, body: Body) -> Result<HttpAnswer, Body> {
    let Some(what) = head.path.strip_prefix(PREFIX) else {
        return Err(body);
    };
    let what = what.split('?').next().unwrap_or_default();
    // Without a listed origin a browser keeps the answer from the page: it is for back ends, by their token.
    let rules = live.rules();
    let allowed = Allowed::of(&rules.origins, head, false).unwrap_or(Allowed::Own);
    if matches!(what, "changes" | "publish" | "presence")
        && allowed != Allowed::Own
        && let Some(preflight) = allowed.preflight(head)
    {
        return Ok(HttpAnswer::Ready(preflight));
    }
    by_name(live, head, body, what).map(|answer| match what {
        // It has its own.
        "client.js" => answer,
        _ => allowed.on_answer(answer),
    })
}

fn by_name(live: &Arc<Live>, head: &Head<'_>, body: Body, what: &str) -> Result<HttpAnswer, Body> {
    if what == "changes" && live.secrets.load().is_api_token(bearer(head)) {
        return Ok(HttpAnswer::Ready(changes(live, head)));
    }
    if !live.role.spec().keeps_connections {
        return Err(body);
    }
    let id = head.request_id;
    Ok(match (head.method, what) {
        ("GET" | "HEAD", "client.js") => HttpAnswer::Ready(client(head)),
        ("POST", "publish" | "presence") => {
            if !live.secrets.load().is_api_token(bearer(head)) {
                let reply = reply::status(StatusCode::UNAUTHORIZED, id);
                let scheme = HeaderValue::from_static("Bearer");
                return Ok(HttpAnswer::Ready(
                    reply.with(header::WWW_AUTHENTICATE, scheme),
                ));
            }
            let (live, publishes) = (Arc::clone(live), what == "publish");
            HttpAnswer::Later(Box::pin(async move {
                let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
                    let text = format!("a request has at most {BODY_BYTES_MAX} bytes\n");
                    return Reply::text(StatusCode::PAYLOAD_TOO_LARGE, text);
                };
                let body = body.to_bytes();
                match publishes {
                    true => publish(&live, &body).await,
                    false => presence(&live, &body).await,
                }
            }))
        }
        (_, "changes") => HttpAnswer::Ready(unauthorized(id)),
        (_, "client.js") => HttpAnswer::Ready(reply::wrong_method(&["GET"], id)),
        (_, "publish" | "presence") => HttpAnswer::Ready(reply::wrong_method(&["POST"], id)),
        _ => HttpAnswer::Ready(reply::status(StatusCode::NOT_FOUND, id)),
    })
}

fn unauthorized(request_id: &str) -> Reply {
    let scheme = HeaderValue::from_static("Bearer");
    reply::status(StatusCode::UNAUTHORIZED, request_id).with(header::WWW_AUTHENTICATE, scheme)
}

/// Events of a key that this node hears of, without end: `{"changed":…}`, or `{"lost":true}`.
fn changes(live: &Arc<Live>, head: &Head<'_>) -> Reply {
    let query = head.path.split_once('?').map_or("", |(_, query)| query);
    let key = query.split('&').find_map(|pair| pair.strip_prefix("key="));
    let Some(key) = key.filter(|key| !key.is_empty() && key.len() <= NAME_BYTES_MAX / 2) else {
        return bad("ask for /_live/changes?key=KEY");
    };
    let mut reply = Reply::empty(StatusCode::OK)
        .with(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        )
        .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let ping = Duration::from_millis(live.rules().limits.ping_ms.max(1));
    let mut pings = interval(ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let changes = Changes {
        registration: Live::register(live, key),
        leave: Box::pin(live.drain_moment()),
        pings,
    };
    reply.body = ReplyBody::Stream(changes.boxed_unsync());
    reply
}

struct Changes {
    registration: Registration,
    /// Tells of this node's drain.
    leave: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The first at once, so that the head goes out; by the others a peer that has vanished is noticed.
    pings: Interval,
}

impl HttpBody for Changes {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        if self.leave.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let ping = self.pings.poll_tick(cx).is_ready();
        let event = match self.registration.poll_next(cx) {
            Poll::Ready(Change::Changed(data)) => {
                json!({"changed": String::from_utf8_lossy(&data)})
            }
            Poll::Ready(Change::Lost) => json!({"lost": true}),
            Poll::Pending if ping => {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b":\n\n")))));
            }
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(Some(Ok(Frame::data(format!("data: {event}\n\n").into()))))
    }
}

fn bearer<'a>(head: &Head<'a>) -> Option<&'a str> {
    let (scheme, token) = head.header_str("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Browsers ask again with every page, and are mostly told that it is the same.
fn client(head: &Head<'_>) -> Reply {
    let tag = format!("\"{}\"", env!("CARGO_PKG_VERSION"));
    let mut held = head.header_list("if-none-match");
    let known = held.any(|held| {
        let held = held.strip_prefix(b"W/").unwrap_or(held);
        held == b"*" || held == tag.as_bytes()
    });
    let mut reply = match known {
        true => Reply::empty(StatusCode::NOT_MODIFIED),
        false => Reply::empty(StatusCode::OK)
            .with(
                header::CONTENT_TYPE,
                HeaderValue::from_static("text/javascript; charset=utf-8"),
            )
            .with_body(Bytes::from_static(CLIENT.as_bytes())),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        reply = reply.with(header::ETAG, tag);
    }
    // The same for everybody: a page of any origin may have it.
    reply
        .with(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))
        .with(
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            HeaderValue::from_static("*"),
        )
}

/// One message or an array of them; each has an answer of its own, in their order.
async fn publish(live: &Live, body: &[u8]) -> Reply {
    let all = match serde_json::from_slice::<Vec<PublishArguments<'_>>>(body) {
        Ok(all) => all,
        Err(_) => match serde_json::from_slice::<PublishArguments<'_>>(body) {
            Ok(one) => vec![one],
            Err(error) => {
                return bad(&format!(
                    "write {{\"channel\":…,\"data\":…,\"key\":…}} or an array of that: {error}"
                ));
            }
        },
    };
    if all.len() > BATCH_MAX {
        return bad(&format!("a batch has at most {BATCH_MAX} messages"));
    }
    // All are under way before the first is waited for, in their order.
    let under_way: Vec<_> = all.iter().map(|one| begin(live, one)).collect();
    let mut results = Vec::with_capacity(under_way.len());
    for one in under_way {
        results.push(match one {
            Ok(answer) => published(answer.await),
            Err(refused) => refused,
        });
    }
    json_reply(&json!({"results": results}))
}

fn error(code: ErrorCode, message: &str) -> Value {
    json!({"error": {"code": code, "message": message}})
}

fn refused(refusal: &Refusal) -> Value {
    let (code, message) = encode::refusal(refusal);
    error(code, &message)
}

fn begin(live: &Live, one: &PublishArguments<'_>) -> Result<oneshot::Receiver<Answer>, Value> {
    let key = one.key.as_deref();
    if !is_channel(&one.channel) {
        return Err(error(ErrorCode::BadRequest, &no_channel()));
    }
    if key.is_some_and(|key| key.len() > NAME_BYTES_MAX) {
        let message = format!("a key has at most {NAME_BYTES_MAX} bytes");
        return Err(error(ErrorCode::BadRequest, &message));
    }
    let data = Bytes::copy_from_slice(one.data.get().as_bytes());
    let channel = one.channel.as_ref().into();
    live.counters.published.fetch_add(1, Relaxed);
    Ok(live.ask(|hub, now_ms, ticket| hub.publish(now_ms, ticket, &channel, data, key)))
}

fn published(answer: Result<Answer, oneshot::error::RecvError>) -> Value {
    match answer {
        Ok(Answer::Published(Ok(published))) => {
            json!({"position": published.position.to_string()})
        }
        Ok(Answer::Published(Err(refusal))) => refused(&refusal),
        _ => refused(&Refusal::Unavailable),
    }
}

async fn presence(live: &Live, body: &[u8]) -> Reply {
    match serde_json::from_slice::<ChannelArguments<'_>>(body) {
        Ok(of) if !is_channel(&of.channel) => {
            json_reply(&error(ErrorCode::BadRequest, &no_channel()))
        }
        Ok(of) => {
            let channel = of.channel.as_ref().into();
            let asked = live.ask(|hub, now_ms, ticket| hub.members(now_ms, ticket, &channel));
            match asked.await {
                Ok(Answer::Members(Ok(members))) => {
                    let members: Vec<&str> = members.iter().map(|member| &**member).collect();
                    json_reply(&json!({"members": members}))
                }
                Ok(Answer::Members(Err(refusal))) => json_reply(&refused(&refusal)),
                _ => json_reply(&refused(&Refusal::Unavailable)),
            }
        }
        Err(error) => bad(&format!("write {{\"channel\":…}}: {error}")),
    }
}

fn bad(why: &str) -> Reply {
    Reply::text(StatusCode::BAD_REQUEST, format!("{why}\n"))
}

fn json_reply(value: &Value) -> Reply {
    Reply::empty(StatusCode::OK)
        .with(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )
        .with_body(value.to_string())
}
