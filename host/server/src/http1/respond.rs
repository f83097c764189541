//! Writes a reply's head. Framing is ours alone.

use crate::{
    identity,
    reply::{Persistence, ReplyContext, ReplyFraming, date, is_ours},
};
use http::{HeaderValue, StatusCode, header};
use protoplex_http::{Interim, Reply};

/// Appends the head of a reply.
pub(super) fn head(
    out: &mut Vec<u8>,
    reply: &Reply,
    asked: &ReplyContext,
    framing: ReplyFraming,
    length: Option<u64>,
    after: Persistence,
) {
    status_line(out, reply.status);
    for (name, value) in &reply.headers {
        if !is_ours(name) {
            field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(reply.lines.as_bytes());
    if let Some(length) = length {
        let mut digits = [0; 20];
        field(out, b"content-length", decimal(length, &mut digits));
    }
    if framing == ReplyFraming::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    let required = required_protocol(reply, asked);
    if let Some(protocol) = required {
        field(out, b"upgrade", protocol.as_bytes());
    }
    let options: &[u8] = match (required.is_some(), after == Persistence::Close) {
        (true, true) => b"connection: upgrade, close\r\n",
        (true, false) => b"connection: upgrade\r\n",
        (false, true) => b"connection: close\r\n",
        (false, false) if asked.version == 10 => b"connection: keep-alive\r\n",
        (false, false) => b"",
    };
    out.extend_from_slice(options);
    field(out, b"x-request-id", identity::text(&asked.id).as_bytes());
    if !reply.dated {
        date_line(out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Protocol that a 426 asks for: it has to name one (RFC 9110, section 15.5.22). HTTP/1.1 alone has a place for it.
fn required_protocol<'a>(reply: &'a Reply, asked: &ReplyContext) -> Option<&'a HeaderValue> {
    if reply.status != StatusCode::UPGRADE_REQUIRED || asked.version < 11 {
        return None;
    }
    let mut named = reply.headers.iter();
    let named = named.find(|(name, _)| *name == header::UPGRADE);
    named.map(|(_, protocol)| protocol)
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

fn date_line(out: &mut Vec<u8>) {
    field(out, b"date", date().as_bytes());
}

/// Appends the head of a reply that switches protocols, or says that a CONNECT succeeded.
pub(super) fn tunnel_head(out: &mut Vec<u8>, reply: &Reply, asked: &ReplyContext) {
    status_line(out, reply.status);
    out.extend_from_slice(reply.lines.as_bytes());
    if let Some(protocol) = reply
        .headers
        .iter()
        .find(|(name, _)| *name == header::UPGRADE)
    {
        out.extend_from_slice(b"connection: upgrade\r\n");
        field(out, b"upgrade", protocol.1.as_bytes());
    }
    field(out, b"x-request-id", identity::text(&asked.id).as_bytes());
    if !reply.dated {
        date_line(out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends an interim response.
pub(super) fn interim(out: &mut Vec<u8>, interim: &Interim) {
    status_line(out, interim.status);
    out.extend_from_slice(interim.lines.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Interim response for which a client that asked for it waits before it sends its body.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[cfg(test)]
mod tests;
