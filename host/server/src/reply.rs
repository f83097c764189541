//! Replies in either protocol: how long they are, whether they may be sent as they stand, and what stands in their
//! place.

use crate::{identity, refusal::HttpRefusal};
use http::{HeaderName, HeaderValue, StatusCode, header};
use protoplex_http::{Reply, ReplyBody};
use std::{
    cell::RefCell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Framing of a reply's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyFraming {
    /// No body follows.
    None,
    /// Exactly this many bytes follow.
    Length(u64),
    Chunked,
    /// The body ends with the connection (HTTP/1.0).
    Close,
}

/// What becomes of a connection of HTTP/1 after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Another request may follow.
    KeepAlive,
    /// The connection closes.
    Close,
}

impl Persistence {
    pub(crate) fn new(may_follow: bool) -> Self {
        match may_follow {
            true => Self::KeepAlive,
            false => Self::Close,
        }
    }
}

/// Parts of a request that shape its reply.
#[derive(Clone, Copy)]
pub(crate) struct ReplyContext {
    pub(crate) version: u8,
    pub(crate) is_head: bool,
    pub(crate) is_connect: bool,
    pub(crate) keep_alive: bool,
    pub(crate) id: [u8; 16],
}

impl ReplyContext {
    /// Parts for a reply to what was no request.
    pub(crate) fn closing() -> Self {
        Self {
            version: 11,
            is_head: false,
            is_connect: false,
            keep_alive: false,
            id: [b'0'; 16],
        }
    }
}

/// Framing of a reply, and the length to announce where that is known.
pub(crate) fn framing(reply: &Reply, asked: &ReplyContext) -> (ReplyFraming, Option<u64>) {
    let announced = || {
        let mut headers = reply.headers.iter();
        let length = headers.find(|(name, _)| *name == header::CONTENT_LENGTH);
        length.and_then(|(_, value)| value.to_str().ok()?.parse().ok())
    };
    if reply.status == StatusCode::NO_CONTENT || is_tunnel(reply) {
        return (ReplyFraming::None, None);
    }
    let length = match &reply.body {
        // The length of a body that is here would be taken for that of what has not changed (RFC 9110, section 8.6).
        ReplyBody::Empty | ReplyBody::Full(_) | ReplyBody::Stream(_)
            if reply.status == StatusCode::NOT_MODIFIED =>
        {
            announced()
        }
        ReplyBody::Empty => Some(0),
        ReplyBody::Full(bytes) => Some(bytes.len() as u64),
        ReplyBody::Absent { bytes }
            if asked.is_head || reply.status == StatusCode::NOT_MODIFIED =>
        {
            *bytes
        }
        // A length of 0 says that there is no body; else the next reply is taken for it.
        ReplyBody::Absent { .. } => Some(0),
        ReplyBody::Stream(body) => announced().or_else(|| http_body::Body::size_hint(body).exact()),
        ReplyBody::Relay(body) => body.size_hint().exact(),
        ReplyBody::Tunnel(_) | ReplyBody::Switch(_) => None,
    };
    let absent = asked.is_head || reply.status == StatusCode::NOT_MODIFIED;
    match (&reply.body, length) {
        _ if absent => (ReplyFraming::None, length),
        (ReplyBody::Empty | ReplyBody::Absent { .. }, length) => (ReplyFraming::None, length),
        (_, Some(length)) => (ReplyFraming::Length(length), Some(length)),
        (_, None) if asked.version >= 11 => (ReplyFraming::Chunked, None),
        (_, None) => (ReplyFraming::Close, None),
    }
}

/// Whether the connection is a tunnel after this reply.
pub(crate) fn is_tunnel(reply: &Reply) -> bool {
    matches!(reply.body, ReplyBody::Tunnel(_) | ReplyBody::Switch(_))
}

/// Returns the reply itself, or another where its status does not end the request, or would switch the connection to
/// something that nobody agreed on: what follows would be read as something else.
pub(crate) fn conclusive(reply: Reply, asked: &ReplyContext) -> Reply {
    let request = identity::text(&asked.id);
    if is_tunnel(&reply) {
        reply
    } else if reply.status.is_informational() {
        tracing::error!(request, status = %reply.status, "a handler answered with an interim status; its client gets a 500");
        failed(&asked.id)
    } else if asked.is_connect && reply.status.is_success() {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let mut reply = Reply::text(status, format!("CONNECT is off\nrequest {request}\n"));
        reply.close = true;
        reply
    } else {
        reply
    }
}

/// Makes the reply to a request whose service panicked.
pub(crate) fn panicked(id: &[u8; 16]) -> Reply {
    let request = identity::text(id);
    tracing::error!(
        request,
        "the host panicked while it answered a request; its client gets a 500"
    );
    failed(id)
}

/// Makes the reply to a client that is over its limits.
pub(crate) fn too_many(wait: Duration, id: &[u8; 16]) -> Reply {
    let text = format!("429 Too Many Requests\nrequest {}\n", identity::text(id));
    let seconds = HeaderValue::from(wait.as_secs() + 1);
    Reply::text(StatusCode::TOO_MANY_REQUESTS, text).with(header::RETRY_AFTER, seconds)
}

/// Makes the reply to a request that is refused before a service is asked.
pub(crate) fn refused(refusal: HttpRefusal, id: &[u8; 16]) -> Reply {
    let HttpRefusal(status, why) = refusal;
    let reply = Reply::text(status, format!("{why}\nrequest {}\n", identity::text(id)));
    match status {
        // The slowest rate of requests is one in a second.
        StatusCode::TOO_MANY_REQUESTS => {
            reply.with(header::RETRY_AFTER, HeaderValue::from_static("1"))
        }
        _ => reply,
    }
}

fn failed(id: &[u8; 16]) -> Reply {
    let text = format!(
        "500 Internal Server Error\nrequest {}\n",
        identity::text(id)
    );
    let mut reply = Reply::text(StatusCode::INTERNAL_SERVER_ERROR, text);
    reply.close = true;
    reply
}

/// Whether a header belongs to the connection, so that a service cannot set it.
pub(crate) fn is_ours(name: &HeaderName) -> bool {
    const OURS: [&str; 9] = [
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "upgrade",
        "proxy-connection",
        "te",
        "date",
        "x-request-id",
    ];
    OURS.contains(&name.as_str())
}

/// Value of `Date`, made once a second in each thread.
pub(crate) fn date() -> HeaderValue {
    thread_local!(static MADE: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) });
    let now = SystemTime::now();
    let second = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    MADE.with_borrow_mut(|made| match made {
        Some((of, value)) if *of == second => value.clone(),
        _ => {
            let value = HeaderValue::try_from(httpdate::fmt_http_date(now));
            let value = value.expect("a date is visible ASCII");
            made.insert((second, value)).1.clone()
        }
    })
}

#[cfg(test)]
mod tests;
