//! Reads a request's head. Lines end with CRLF and nothing else; framing is unambiguous; there is one authority.

mod hop_fields;
#[cfg(test)]
mod tests;

use super::target;
use crate::{
    limits::HeadLimits,
    refusal::{HEAD_TOO_LARGE, HttpRefusal, LINE_TOO_LONG, TOO_MANY_HEADERS, bad},
};
use hop_fields::RequestHopFields;
use http::StatusCode;
use protoplex_http::{BUILD_HEADER, HeaderField, Internal, ORIGIN_HEADER};
use smallvec::SmallVec;
use std::{borrow::Cow, mem::MaybeUninit};

/// Most header lines that are read, those of a node of ours included.
const HEADERS_CAP: usize = HeadLimits::INTERNAL.headers_max;
/// Header lines that need no allocation: most requests have no more.
const HEADERS_USUAL: usize = 64;

/// Header lines of a head.
pub(crate) type Fields<'a> = SmallVec<[HeaderField<'a>; HEADERS_USUAL]>;

/// Framing of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestFraming {
    None,
    Length(u64),
    Chunked,
}

/// A request's head, borrowed from the read buffer.
pub(crate) struct ParsedHead<'a, 'h> {
    pub(super) method: &'a str,
    pub(crate) path: Cow<'a, str>,
    pub(super) authority: &'a str,
    pub(super) version: u8,
    pub(crate) headers: &'h [HeaderField<'a>],
    pub(super) framing: RequestFraming,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    /// Protocol that the client wants to go on with.
    pub(super) upgrade: Option<&'a str>,
    /// Headers that only nodes of the fleet send; not among `headers`.
    pub(super) internal: Option<Internal<'a>>,
}

/// How far a head has been looked through that has not come whole.
#[derive(Default)]
pub(crate) struct HeadScan {
    looked: usize,
    line_start: usize,
}

/// Finds the end of the first head in the buffer; `None` while the head is incomplete. `scan` goes on where an earlier
/// call has stopped. Line ends are judged here, as soon as they come: a head whose lines ended with a bare LF, about which
/// httparse is laxer, would never end for us.
pub(crate) fn find_end(
    buffer: &[u8],
    scan: &mut HeadScan,
    limits: &HeadLimits,
) -> Result<Option<usize>, HttpRefusal> {
    let from = scan.looked.min(buffer.len());
    for at in memchr::memchr_iter(b'\n', &buffer[from..]) {
        let at = from + at;
        let Some(line) = buffer[scan.line_start..at].strip_suffix(b"\r") else {
            return Err(bad("a line ends with LF alone"));
        };
        let is_first = scan.line_start == 0;
        match line.first() {
            None if is_first => return Err(bad("an empty line before the request")),
            None if at + 1 > limits.bytes_max => return Err(too_large(buffer, limits)),
            None => return Ok(Some(at + 1)),
            Some(b' ' | b'\t') => return Err(bad("a header line is folded")),
            Some(_) if is_first && at > limits.line_bytes_max => return Err(LINE_TOO_LONG),
            Some(_) => scan.line_start = at + 1,
        }
    }
    if buffer.len() >= limits.bytes_max {
        return Err(too_large(buffer, limits));
    }
    scan.looked = buffer.len();
    Ok(None)
}

fn too_large(buffer: &[u8], limits: &HeadLimits) -> HttpRefusal {
    match buffer.iter().position(|&byte| byte == b'\n') {
        Some(line) if line <= limits.line_bytes_max => HEAD_TOO_LARGE,
        _ => LINE_TOO_LONG,
    }
}

/// Reads one whole head, whose end [`find_end`] has found.
pub(crate) fn parse<'a, 'h>(
    bytes: &'a [u8],
    fields: &'h mut Fields<'a>,
    limits: &HeadLimits,
) -> Result<ParsedHead<'a, 'h>, HttpRefusal> {
    let mut raw = [const { MaybeUninit::uninit() }; HEADERS_CAP];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut raw) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad("the head is incomplete")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(TOO_MANY_HEADERS);
        }
        Err(httparse::Error::Version) if names_version(bytes) => {
            return Err(HttpRefusal(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "HTTP/1.1 is spoken here",
            ));
        }
        Err(_) => return Err(malformed(bytes)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(bad("the request line is malformed"));
    };
    if request.headers.len() > limits.headers_max {
        return Err(TOO_MANY_HEADERS);
    }
    fields.clear();
    let (mut token, mut origin) = (None, None);
    for header in request.headers.iter() {
        let (name, value) = (header.name, header.value);
        match name {
            _ if is_name(name, BUILD_HEADER) => token = token.or(Some(value)),
            _ if is_name(name, ORIGIN_HEADER) => origin = origin.or(Some(value)),
            _ => fields.push(HeaderField { name, value }),
        }
    }
    let version = 10 + minor;
    let hop = RequestHopFields::read(fields, version)?;
    let (path, authority) = target::split(method, target, hop.host)?;
    if method == "CONNECT" && hop.framing != RequestFraming::None {
        return Err(bad("CONNECT has no body"));
    }
    let upgrade = upgrade_without_body(hop.upgrade, hop.framing)?;
    if hop.host.is_some_and(|host| host != authority) {
        name_one_host(fields, authority);
    }
    let headers = &fields[..];
    Ok(ParsedHead {
        method,
        path,
        authority,
        version,
        headers,
        framing: hop.framing,
        keep_alive: hop.keep_alive,
        expects_continue: hop.expects_continue,
        upgrade,
        internal: token.map(|token| Internal {
            token,
            origin,
            relays: None,
        }),
    })
}

/// Protocol that a client may go on with: none behind a body, so that no byte of it is ever taken for the first of a
/// tunnel, here or by a server behind. A request may be answered as if it asked for no other protocol (RFC 9110,
/// section 7.8); a handshake of WebSocket is nothing else, and has no body (RFC 6455, section 4.1).
fn upgrade_without_body(
    upgrade: Option<&str>,
    framing: RequestFraming,
) -> Result<Option<&str>, HttpRefusal> {
    match upgrade {
        Some(to) if framing != RequestFraming::None && to.eq_ignore_ascii_case("websocket") => {
            Err(bad("a WebSocket handshake has no body"))
        }
        _ => Ok(upgrade.filter(|_| framing == RequestFraming::None)),
    }
}

/// Whether a name is `known`, without case, told by the length first: most names have another.
fn is_name(name: &str, known: &str) -> bool {
    name.len() == known.len() && name.eq_ignore_ascii_case(known)
}

/// Turns a later minor version in a request line into HTTP/1.1: whoever speaks it is to be understood as a client of
/// the highest that is known here (RFC 9110, section 2.5), and nothing behind sees another.
pub(crate) fn settle_version(head: &mut [u8]) {
    let line = head.iter().position(|&byte| byte == b'\r').unwrap_or(0);
    if let Some((minor, before)) = head[..line].split_last_mut()
        && before.ends_with(b" HTTP/1.")
        && matches!(minor, b'2'..=b'9')
    {
        *minor = b'1';
    }
}

/// Whether the request line has three words and the last is a version, known or not.
fn names_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\r').next();
    let mut words = line.unwrap_or_default().split(|&byte| byte == b' ');
    let version = words.nth(2);
    words.next().is_none()
        && matches!(version, Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Writes the authority into `Host`: an absolute target outranks it, and nobody behind us shall read another name
/// there.
fn name_one_host<'a>(fields: &mut [HeaderField<'a>], authority: &'a str) {
    for field in fields {
        if field.name.eq_ignore_ascii_case("host") {
            field.value = authority.as_bytes();
        }
    }
}

/// Refusal of a head that httparse does not take, with the reason where a byte tells it.
fn malformed(bytes: &[u8]) -> HttpRefusal {
    let mut bytes = bytes.iter().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' if bytes.peek() != Some(&&b'\n') => return bad("CR stands alone"),
            0..=8 | 11 | 12 | 14..=31 | 127 => return bad("a control character"),
            _ => {}
        }
    }
    bad("the head is malformed")
}
