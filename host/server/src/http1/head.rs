//! Reading a request's head. Lines end with CRLF and nothing else; framing is unambiguous; there is one authority.

use super::target;
use crate::{
    limits::HeadLimits,
    refusal::{HEAD_TOO_LARGE, LINE_TOO_LONG, Refusal, TOO_MANY_HEADERS, bad},
};
use http::StatusCode;
use protoplex_http::{BUILD_HEADER, HeaderField, Internal, ORIGIN_HEADER, target::is_authority};
use smallvec::SmallVec;
use std::{borrow::Cow, mem::MaybeUninit};

/// Header lines that are read at all, those of a node of ours.
const HEADERS_CAP: usize = HeadLimits::INTERNAL.headers_max;
/// Header lines of most requests: as many need no allocation.
const HEADERS_USUAL: usize = 64;

/// The header lines of a head.
pub(crate) type Fields<'a> = SmallVec<[HeaderField<'a>; HEADERS_USUAL]>;

/// How a request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestFraming {
    None,
    Length(u64),
    Chunked,
}

/// A head, borrowed from the read buffer.
pub(crate) struct Parsed<'a, 'h> {
    pub(super) method: &'a str,
    pub(crate) path: Cow<'a, str>,
    pub(super) authority: &'a str,
    pub(super) version: u8,
    pub(crate) headers: &'h [HeaderField<'a>],
    pub(super) framing: RequestFraming,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    /// The protocol that the client wants to go on with.
    pub(super) upgrade: Option<&'a str>,
    /// Headers that only nodes of the fleet send; not among `headers`.
    pub(super) internal: Option<Internal<'a>>,
}

/// Where the first head in the buffer ends, or `None` while it is incomplete. `from` is where an earlier call has
/// already looked; it is updated.
pub(crate) fn find_end(
    buffer: &[u8],
    from: &mut usize,
    limits: &HeadLimits,
) -> Result<Option<usize>, Refusal> {
    let start = from.saturating_sub(3).min(buffer.len());
    if let Some(at) = buffer[start..]
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
    {
        let end = start + at + 4;
        return if end > limits.bytes_max {
            Err(too_large(buffer, limits))
        } else {
            Ok(Some(end))
        };
    }
    // Lines that end with a bare LF would never end for us: refuse them as soon as they show.
    if buffer[start..]
        .windows(2)
        .any(|window| window[1] == b'\n' && window[0] != b'\r')
        || buffer.first() == Some(&b'\n')
    {
        return Err(bad("a line ends with LF alone"));
    }
    if buffer.len() >= limits.bytes_max {
        return Err(too_large(buffer, limits));
    }
    *from = buffer.len();
    Ok(None)
}

fn too_large(buffer: &[u8], limits: &HeadLimits) -> Refusal {
    match buffer.iter().position(|&byte| byte == b'\n') {
        Some(line) if line <= limits.line_bytes_max => HEAD_TOO_LARGE,
        _ => LINE_TOO_LONG,
    }
}

/// Reads one whole head.
pub(crate) fn parse<'a, 'h>(
    bytes: &'a [u8],
    fields: &'h mut Fields<'a>,
    limits: &HeadLimits,
) -> Result<Parsed<'a, 'h>, Refusal> {
    check_lines(bytes, limits)?;
    let mut raw = [const { MaybeUninit::uninit() }; HEADERS_CAP];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut raw) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad("the head is incomplete")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(TOO_MANY_HEADERS);
        }
        Err(httparse::Error::Version) if names_version(bytes) => {
            return Err(Refusal(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "HTTP/1.1 is spoken here",
            ));
        }
        Err(_) => return Err(bad("the head is malformed")),
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
    let meaning = Meaning::of(fields, version)?;
    let (path, authority) = target::split(method, target, meaning.host)?;
    if method == "CONNECT" && meaning.framing != RequestFraming::None {
        return Err(bad("CONNECT has no body"));
    }
    let upgrade = meaning
        .upgrade
        .filter(|_| meaning.upgrades && version >= 11);
    let upgrade = upgrade_without_body(upgrade, meaning.framing)?;
    if meaning.host.is_some_and(|host| host != authority) {
        name_one_host(fields, authority);
    }
    let headers = &fields[..];
    Ok(Parsed {
        method,
        path,
        authority,
        version,
        headers,
        framing: meaning.framing,
        keep_alive: meaning.keep_alive,
        expects_continue: meaning.expects_continue,
        upgrade,
        internal: token.map(|token| Internal {
            token,
            origin,
            relays: None,
        }),
    })
}

/// The protocol that a client may go on with: behind a body none, so that no byte of it is ever taken for the first of a
/// tunnel, here or by a server behind. A request may be answered as if it asked for no other protocol (RFC 9110, section
/// 7.8); a handshake of WebSocket is nothing else, and has no body (RFC 6455, section 4.1).
fn upgrade_without_body(
    upgrade: Option<&str>,
    framing: RequestFraming,
) -> Result<Option<&str>, Refusal> {
    match upgrade {
        Some(to) if framing != RequestFraming::None && to.eq_ignore_ascii_case("websocket") => {
            Err(bad("a WebSocket handshake has no body"))
        }
        _ => Ok(upgrade.filter(|_| framing == RequestFraming::None)),
    }
}

/// Told by the length first: most names have another.
fn is_name(name: &str, known: &str) -> bool {
    name.len() == known.len() && name.eq_ignore_ascii_case(known)
}

/// Makes the version of a request line that names a later minor one HTTP/1.1: whoever speaks it is to be understood as a
/// client of the highest that is known here (RFC 9110, section 2.5), and nothing behind sees another.
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

/// An absolute target outranks `Host`; nobody behind us shall read another name there.
fn name_one_host<'a>(fields: &mut [HeaderField<'a>], authority: &'a str) {
    for field in fields {
        if field.name.eq_ignore_ascii_case("host") {
            field.value = authority.as_bytes();
        }
    }
}

/// Line ends, folding and control characters: what httparse is laxer about.
fn check_lines(bytes: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
    let mut line_start = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if at == 0 || bytes[at - 1] != b'\r' => {
                return Err(bad("a line ends with LF alone"));
            }
            b'\n' if at == 1 => return Err(bad("an empty line before the request")),
            b'\n' => {
                if line_start == 0 && at > limits.line_bytes_max {
                    return Err(LINE_TOO_LONG);
                }
                line_start = at + 1;
            }
            b'\r' if bytes.get(at + 1) != Some(&b'\n') => return Err(bad("CR stands alone")),
            b' ' | b'\t' if at == line_start => return Err(bad("a header line is folded")),
            0..=8 | 11 | 12 | 14..=31 | 127 => return Err(bad("a control character")),
            _ => {}
        }
    }
    Ok(())
}

/// What the headers that concern the connection say.
struct Meaning<'a> {
    framing: RequestFraming,
    keep_alive: bool,
    expects_continue: bool,
    host: Option<&'a str>,
    /// `Connection` names it.
    upgrades: bool,
    upgrade: Option<&'a str>,
}

impl<'a> Meaning<'a> {
    fn of(headers: &[HeaderField<'a>], version: u8) -> Result<Self, Refusal> {
        let (mut length, mut chunked, mut host) = (None, false, None);
        let (mut close, mut keep_alive) = (false, version >= 11);
        let mut expects_continue = false;
        let (mut upgrades, mut upgrade) = (false, None);
        for field in headers {
            match field.name.len() {
                4 if field.name.eq_ignore_ascii_case("host") => {
                    let value = std::str::from_utf8(field.value)
                        .ok()
                        .filter(|value| is_authority(value));
                    if host
                        .replace(value.ok_or(bad("Host is malformed"))?)
                        .is_some()
                    {
                        return Err(bad("Host stands twice"));
                    }
                }
                6 if field.name.eq_ignore_ascii_case("expect") => {
                    let mut expected = field.value.split(|&byte| byte == b',');
                    expects_continue |= version >= 11
                        && expected
                            .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"100-continue"));
                }
                7 if field.name.eq_ignore_ascii_case("upgrade") => {
                    upgrade = preferred(upgrade, field.value);
                }
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    for token in field
                        .value
                        .split(|&byte| byte == b',')
                        .map(<[u8]>::trim_ascii)
                    {
                        if token.eq_ignore_ascii_case(b"close") {
                            close = true;
                        } else if token.eq_ignore_ascii_case(b"keep-alive") {
                            keep_alive = true;
                        } else if token.eq_ignore_ascii_case(b"upgrade") {
                            upgrades = true;
                        }
                    }
                }
                14 if field.name.eq_ignore_ascii_case("content-length")
                    && length.replace(digits(field.value)?).is_some() =>
                {
                    return Err(bad("Content-Length stands twice"));
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    if version < 11 {
                        return Err(bad("Transfer-Encoding in HTTP/1.0"));
                    }
                    if chunked {
                        return Err(bad("Transfer-Encoding stands twice"));
                    }
                    if !field.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Refusal(
                            StatusCode::NOT_IMPLEMENTED,
                            "only `chunked` is known",
                        ));
                    }
                    chunked = true;
                }
                _ => {}
            }
        }
        let framing = match (length, chunked) {
            (Some(_), true) => return Err(bad("both Content-Length and Transfer-Encoding")),
            (None, true) => RequestFraming::Chunked,
            (None | Some(0), false) => RequestFraming::None,
            (Some(length), false) => RequestFraming::Length(length),
        };
        if version >= 11 && host.is_none() {
            return Err(bad("Host is missing"));
        }
        Ok(Self {
            framing,
            keep_alive: keep_alive && !close,
            expects_continue,
            host,
            upgrades,
            upgrade,
        })
    }
}

/// The protocol that a request is taken to ask for, of the lists in all lines of its `Upgrade` (RFC 9110, section 7.8):
/// WebSocket, which is what is spoken here, or else the first.
fn preferred<'a>(before: Option<&'a str>, list: &'a [u8]) -> Option<&'a str> {
    let offered = std::str::from_utf8(list).unwrap_or_default().split(',');
    let offered = offered.map(str::trim_ascii).filter(|name| !name.is_empty());
    before.into_iter().chain(offered).reduce(|best, other| {
        match other.eq_ignore_ascii_case("websocket") && !best.eq_ignore_ascii_case("websocket") {
            true => other,
            false => best,
        }
    })
}

fn digits(value: &[u8]) -> Result<u64, Refusal> {
    let text = std::str::from_utf8(value)
        .ok()
        .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|text| text.parse().ok())
        .ok_or(bad("Content-Length is no number"))
}

#[cfg(test)]
mod tests;
