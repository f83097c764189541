//! Reads a response's head from a server, as strictly as a request's: what could be read in two ways is an error of the
//! server, and the connection is closed. What can be read in one way only is taken, however odd:
//!
//! - a 1xx, 204 or 304 ends with its head, whatever it says of a body (RFC 9112, section 6.3). If it says that there is
//!   one, some may follow all the same: its connection is not used again.
//! - `Content-Length` may repeat one number (RFC 9110, section 8.6): the client gets a single line of ours.
//! - empty elements beside `chunked` count for nothing, and HTTP/1.2 and later are HTTP/1.1: what we write is neither.
//!
//! Refused, where RFC 9112 leaves a choice: folded lines (section 5.2), `Transfer-Encoding` in HTTP/1.0 or with
//! `Content-Length` (sections 6.1 and 6.3), and any coding but `chunked`, since we ask for none.

mod hop_fields;
#[cfg(test)]
mod tests;

use super::{
    framing::Framing,
    limits::{RESPONSE_BYTES_READ, RESPONSE_LINES_READ},
};
use hop_fields::ResponseHopFields;
use http::StatusCode;
use protoplex_http::{
    HeaderLines, RESPONSE_TOO_LARGE, RESPONSE_TOO_MANY_LINES, field::is_hop_by_hop,
};
use std::mem::MaybeUninit;

/// Head of a response by HTTP/1.1.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    /// Lines that are passed on to the client.
    pub(super) lines: HeaderLines,
    /// Whether `lines` has a `date`.
    pub(super) dated: bool,
    pub(super) framing: Framing,
    /// Value of `Content-Length`, with a body or without.
    pub(super) length: Option<u64>,
    /// Whether another request may follow on the connection.
    pub(super) keep_alive: bool,
    /// The protocol that a 101 switches to, or those that a 426 asks for.
    pub(super) upgrade: Option<String>,
}

/// Parts of the request that shape the response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ResponseContext {
    pub(super) is_head: bool,
}

/// Reads one head from the start of `bytes`: the head and its length, or `None` while it is incomplete.
pub(super) fn parse(
    bytes: &[u8],
    asked: ResponseContext,
) -> Result<Option<(Response, usize)>, &'static str> {
    // A later minor version is understood as 1.1 (RFC 9110, section 2.5).
    if let Some([b'2'..=b'9', rest @ ..]) = bytes.strip_prefix(b"HTTP/1.") {
        return read(&[b"HTTP/1.1", rest].concat(), asked);
    }
    read(bytes, asked)
}

fn read(bytes: &[u8], asked: ResponseContext) -> Result<Option<(Response, usize)>, &'static str> {
    let mut raw = [const { MaybeUninit::uninit() }; RESPONSE_LINES_READ];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut raw,
    );
    let end = match parsed {
        Ok(httparse::Status::Complete(end)) if end > RESPONSE_BYTES_READ => {
            return Err(RESPONSE_TOO_LARGE);
        }
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) if bytes.len() >= RESPONSE_BYTES_READ => {
            return Err(RESPONSE_TOO_LARGE);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(RESPONSE_TOO_MANY_LINES),
        Err(_) => return Err("its head is malformed"),
    };
    check_line_ends(&bytes[..end])?;
    let (Some(code), Some(minor)) = (response.code, response.version) else {
        return Err("its status line is malformed");
    };
    let status = StatusCode::from_u16(code).map_err(|_| "its status is no status")?;
    let hop = ResponseHopFields::of(response.headers, minor)?;
    let mut lines = HeaderLines::default();
    let mut dated = false;
    for header in response.headers.iter() {
        if is_of_the_connection(header.name) || hop.nominates(header.name) {
            continue;
        }
        dated |= header.name.eq_ignore_ascii_case("date");
        lines.push(header.name.as_bytes(), header.value);
    }
    let framing = hop.framing(status, asked);
    Ok(Some((
        Response {
            status,
            lines,
            dated,
            framing,
            length: hop.length,
            keep_alive: hop.keep_alive
                && framing != Framing::Close
                && !hop.may_have_body_all_the_same(status),
            upgrade: match status {
                StatusCode::UPGRADE_REQUIRED => all_of(response.headers, "upgrade"),
                _ => hop.upgrade.map(str::to_owned),
            },
        },
        end,
    )))
}

/// Joins all values of a header in one line.
fn all_of(headers: &[httparse::Header<'_>], name: &str) -> Option<String> {
    let lines = headers.iter();
    let lines = lines.filter(|header| header.name.eq_ignore_ascii_case(name));
    let values = lines.filter_map(|header| std::str::from_utf8(header.value).ok());
    let values: Vec<_> = values.collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// Whether a header concerns the connection and is not passed on, whatever `Connection` says. Framing and the request
/// id belong to the client's connection.
fn is_of_the_connection(name: &str) -> bool {
    is_hop_by_hop(name) || (name.len() == 12 && name.eq_ignore_ascii_case("x-request-id"))
}

/// Refuses a line that ends with LF alone, which httparse takes.
fn check_line_ends(head: &[u8]) -> Result<(), &'static str> {
    for at in memchr::memchr_iter(b'\n', head) {
        if at == 0 || head[at - 1] != b'\r' {
            return Err("a line of its head ends with LF alone");
        }
    }
    Ok(())
}
