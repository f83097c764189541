//! Reading a request's head. Lines end with CRLF and nothing else; framing is unambiguous; there is one authority.

use super::target;
use crate::{Cause, limits::HeadLimits};
use http::StatusCode;
use protoplex_http::{BUILD_HEADER, HeaderField, Internal, ORIGIN_HEADER};
use smallvec::SmallVec;
use std::mem::MaybeUninit;

/// Header lines that are read at all, those of a node of ours.
const HEADERS_CAP: usize = HeadLimits::INTERNAL.headers_max;
/// Header lines of most requests: as many need no allocation.
const HEADERS_USUAL: usize = 64;

/// The header lines of a head.
pub(crate) type Fields<'a> = SmallVec<[HeaderField<'a>; HEADERS_USUAL]>;

/// Why a head is refused, and with which status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) &'static str);

pub(crate) const LINE_TOO_LONG: Refusal =
    Refusal(StatusCode::URI_TOO_LONG, "the request line is too long");
pub(crate) const HEAD_TOO_LARGE: Refusal = Refusal(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "the head is too large",
);
pub(crate) const TOO_MANY_HEADERS: Refusal = Refusal(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too many header lines",
);

impl Refusal {
    /// The cause that it is counted under; none for what came too slowly, which is counted where that shows.
    pub(crate) fn cause(&self) -> Option<Cause> {
        match self.0 {
            StatusCode::REQUEST_TIMEOUT => None,
            StatusCode::URI_TOO_LONG => Some(Cause::LineTooLong),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Some(Cause::HeadTooLarge),
            StatusCode::NOT_IMPLEMENTED => Some(Cause::Unknown),
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => Some(Cause::Version),
            _ => Some(Cause::Malformed),
        }
    }
}

/// How a request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// A head, borrowed from the read buffer.
pub(crate) struct Parsed<'a, 'h> {
    pub(super) method: &'a str,
    pub(crate) path: &'a str,
    pub(super) authority: &'a str,
    pub(super) version: u8,
    pub(crate) headers: &'h [HeaderField<'a>],
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    /// The protocol that the client wants to go on with.
    pub(super) upgrade: Option<&'a str>,
    /// Headers that only nodes of the fleet send; not among `headers`.
    pub(super) internal: Option<Internal<'a>>,
}

pub(crate) const fn bad(why: &'static str) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, why)
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
    if method == "CONNECT" && meaning.framing != Framing::None {
        return Err(bad("CONNECT has no body"));
    }
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
        upgrade: meaning
            .upgrade
            .filter(|_| meaning.upgrades && version >= 11),
        internal: token.map(|token| Internal { token, origin }),
    })
}

/// Told by the length first: most names have another.
fn is_name(name: &str, known: &str) -> bool {
    name.len() == known.len() && name.eq_ignore_ascii_case(known)
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
    framing: Framing,
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
                        .filter(|value| target::is_authority(value));
                    if host
                        .replace(value.ok_or(bad("Host is malformed"))?)
                        .is_some()
                    {
                        return Err(bad("Host stands twice"));
                    }
                }
                6 if field.name.eq_ignore_ascii_case("expect") => {
                    expects_continue =
                        version >= 11 && field.value.eq_ignore_ascii_case(b"100-continue");
                }
                7 if field.name.eq_ignore_ascii_case("upgrade") => {
                    upgrade = std::str::from_utf8(field.value).ok();
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
            (None, true) => Framing::Chunked,
            (None | Some(0), false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
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

fn digits(value: &[u8]) -> Result<u64, Refusal> {
    let text = std::str::from_utf8(value)
        .ok()
        .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|text| text.parse().ok())
        .ok_or(bad("Content-Length is no number"))
}

#[cfg(test)]
mod tests;
