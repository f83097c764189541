//! Reading a response's head from an upstream, as strictly as a request's: what could be read in two ways is an
//! error of the upstream, and its connection is closed. What can be read in one way only is taken, however odd:
//!
//! - a 1xx, 204 or 304 ends with its head, whatever it says of a body (RFC 9112, section 6.3). If it says that there is
//!   one, some may follow all the same: its connection is not used again.
//! - `Content-Length` may repeat one number (RFC 9110, section 8.6): the client gets a single line of ours.
//! - empty elements beside `chunked` count for nothing, and HTTP/1.2 and later are HTTP/1.1: what we write is neither.
//!
//! Refused, where RFC 9112 leaves a choice: folded lines (section 5.2), `Transfer-Encoding` in HTTP/1.0 or with
//! `Content-Length` (sections 6.1 and 6.3), and any coding but `chunked`, since we ask for none.

use super::{
    framing::Framing,
    limits::{RESPONSE_BYTES_READ, RESPONSE_LINES_READ},
};
use http::StatusCode;
use protoplex_http::{
    Lines, RESPONSE_TOO_LARGE, RESPONSE_TOO_MANY_LINES,
    field::{is_hop_by_hop, names_header},
};
use std::mem::MaybeUninit;

/// A response's head.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    /// End to end.
    pub(super) lines: Lines,
    /// Whether they have a `date`.
    pub(super) dated: bool,
    pub(super) framing: Framing,
    /// The length that `Content-Length` announces, with a body or without.
    pub(super) length: Option<u64>,
    /// Whether another request may follow on its connection.
    pub(super) keep_alive: bool,
    /// The protocol that a 101 switches to, or those that a 426 asks for.
    pub(super) upgrade: Option<String>,
}

/// Parts of the request that shape the response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) is_head: bool,
}

/// Reads one head from the start of `bytes`: the head and its length, or `None` while it is incomplete.
pub(super) fn parse(bytes: &[u8], asked: Asked) -> Result<Option<(Response, usize)>, &'static str> {
    // A later minor version is understood as 1.1 (RFC 9110, section 2.5).
    if let Some([b'2'..=b'9', rest @ ..]) = bytes.strip_prefix(b"HTTP/1.") {
        return read(&[b"HTTP/1.1", rest].concat(), asked);
    }
    read(bytes, asked)
}

fn read(bytes: &[u8], asked: Asked) -> Result<Option<(Response, usize)>, &'static str> {
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
    let meaning = Meaning::of(response.headers, minor)?;
    let mut lines = Lines::with_capacity(end);
    let mut dated = false;
    for header in response.headers.iter() {
        if is_of_the_connection(header.name) || meaning.nominates(header.name) {
            continue;
        }
        dated |= header.name.eq_ignore_ascii_case("date");
        lines.push(header.name.as_bytes(), header.value);
    }
    let framing = meaning.framing(status, asked);
    Ok(Some((
        Response {
            status,
            lines,
            dated,
            framing,
            length: meaning.length,
            keep_alive: meaning.keep_alive
                && framing != Framing::Close
                && !meaning.may_have_body_all_the_same(status),
            upgrade: match status {
                StatusCode::UPGRADE_REQUIRED => all_of(response.headers, "upgrade"),
                _ => meaning.upgrade.map(str::to_owned),
            },
        },
        end,
    )))
}

/// All values of a header, in one line.
fn all_of(headers: &[httparse::Header<'_>], name: &str) -> Option<String> {
    let lines = headers.iter();
    let lines = lines.filter(|header| header.name.eq_ignore_ascii_case(name));
    let values = lines.filter_map(|header| std::str::from_utf8(header.value).ok());
    let values: Vec<_> = values.collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// Whether a header is not passed on, whatever `Connection` says: framing and the request id are the client's
/// connection's.
fn is_of_the_connection(name: &str) -> bool {
    is_hop_by_hop(name) || (name.len() == 12 && name.eq_ignore_ascii_case("x-request-id"))
}

/// httparse takes LF alone for a line's end.
fn check_line_ends(head: &[u8]) -> Result<(), &'static str> {
    for at in memchr::memchr_iter(b'\n', head) {
        if at == 0 || head[at - 1] != b'\r' {
            return Err("a line of its head ends with LF alone");
        }
    }
    Ok(())
}

/// Meaning of the headers that concern the connection.
struct Meaning<'a> {
    length: Option<u64>,
    chunked: bool,
    keep_alive: bool,
    upgrade: Option<&'a str>,
    /// A line of `Connection` may name headers that would be passed on: nearly always none does.
    nominates: bool,
    headers: &'a [httparse::Header<'a>],
}

impl<'a> Meaning<'a> {
    fn of(headers: &'a [httparse::Header<'a>], minor: u8) -> Result<Self, &'static str> {
        let mut meaning = Self {
            length: None,
            chunked: false,
            keep_alive: minor >= 1,
            upgrade: None,
            nominates: false,
            headers,
        };
        for header in headers {
            let name = header.name;
            match name.len() {
                7 if name.eq_ignore_ascii_case("upgrade") => {
                    meaning.upgrade = std::str::from_utf8(header.value).ok();
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    meaning.nominates |= names_header(header.value);
                    for token in tokens(header.value) {
                        if token.eq_ignore_ascii_case(b"close") {
                            meaning.keep_alive = false;
                        } else if minor == 0 && token.eq_ignore_ascii_case(b"keep-alive") {
                            meaning.keep_alive = true;
                        }
                    }
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    for value in tokens(header.value) {
                        let length = digits(value).ok_or("its Content-Length is no number")?;
                        if meaning
                            .length
                            .replace(length)
                            .is_some_and(|other| other != length)
                        {
                            return Err("its Content-Length has two values");
                        }
                    }
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    // Empty elements of a list count for nothing (RFC 9110, section 5.6.1.2).
                    let mut codings = tokens(header.value).filter(|coding| !coding.is_empty());
                    let is_chunked = codings
                        .next()
                        .is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
                    if meaning.chunked || !is_chunked || codings.next().is_some() {
                        return Err("its Transfer-Encoding is not `chunked`");
                    }
                    if minor == 0 {
                        return Err("it has Transfer-Encoding in HTTP/1.0");
                    }
                    meaning.chunked = true;
                }
                _ => {}
            }
        }
        if meaning.chunked && meaning.length.is_some() {
            return Err("it has both Content-Length and Transfer-Encoding");
        }
        Ok(meaning)
    }

    /// RFC 9112, section 6.3.
    fn framing(&self, status: StatusCode, asked: Asked) -> Framing {
        if asked.is_head || is_bodiless(status) {
            return Framing::None;
        }
        match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Close,
        }
    }

    /// Whether it announces a body that its status does not have. A 304 may tell the length of what it stands for.
    fn may_have_body_all_the_same(&self, status: StatusCode) -> bool {
        let has_length = self.length.is_some_and(|length| length > 0);
        is_bodiless(status) && (self.chunked || (has_length && status != StatusCode::NOT_MODIFIED))
    }

    /// Whether `Connection` names that header.
    fn nominates(&self, name: &str) -> bool {
        if !self.nominates {
            return false;
        }
        self.headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case("connection"))
            .flat_map(|header| tokens(header.value))
            .any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// Whether a response of that status ends with its head.
fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn digits(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Response, &'static str> {
        parse(text.as_bytes(), Asked::default()).map(|read| read.expect("a whole head").0)
    }

    #[test]
    fn what_frames_a_body_is_what_the_standard_says() {
        for (head, framing, keep_alive) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
                Framing::Length(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n",
                Framing::None,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n",
                Framing::Chunked,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: , chunked ,\r\n",
                Framing::Chunked,
                true,
            ),
            ("HTTP/1.1 200 OK\r\n", Framing::Close, false),
            ("HTTP/1.2 200 OK\r\n", Framing::Close, false),
            (
                "HTTP/1.9 200 OK\r\ncontent-length: 5\r\n",
                Framing::Length(5),
                true,
            ),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n",
                Framing::Length(5),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n",
                Framing::Length(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n",
                Framing::Length(5),
                false,
            ),
            (
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n",
                Framing::None,
                true,
            ),
            ("HTTP/1.1 204 No Content\r\n", Framing::None, true),
            (
                "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n",
                Framing::None,
                true,
            ),
            (
                "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n",
                Framing::None,
                false,
            ),
            (
                "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n",
                Framing::None,
                false,
            ),
            (
                "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n",
                Framing::None,
                false,
            ),
            (
                "HTTP/1.1 103 Early Hints\r\ntransfer-encoding: chunked\r\n",
                Framing::None,
                false,
            ),
            (
                "HTTP/1.1 205 Reset Content\r\ncontent-length: 2\r\n",
                Framing::Length(2),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n",
                Framing::Length(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n",
                Framing::Length(5),
                true,
            ),
        ] {
            let response = read(&format!("{head}\r\n")).expect(head);
            assert_eq!(
                (response.framing, response.keep_alive),
                (framing, keep_alive),
                "{head}"
            );
        }
    }

    #[test]
    fn a_head_that_reads_in_two_ways_is_refused() {
        for (head, why) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n",
                "two values",
            ),
            (
                "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\ncontent-length: 6\r\n",
                "two values",
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n", "two values"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5,\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\ncontent-length:\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n", "no number"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n",
                "both",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n",
                "not `chunked`",
            ),
            (
                "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n",
                "HTTP/1.0",
            ),
            (
                "HTTP/1.1 204 No Content\r\ntransfer-encoding: gzip\r\n",
                "not `chunked`",
            ),
            (
                "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n",
                "both",
            ),
            ("HTTP/1.1 200 OK\nx: y\r\n", "LF alone"),
            ("HTTP/1.1 200 OK\r\nx: y\n", "LF alone"),
            ("HTTP/1.1 200 OK\r\nx : y\r\n", "malformed"),
            ("HTTP/1.1 200 OK\r\n folded: y\r\n", "malformed"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: ,\r\n",
                "not `chunked`",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n",
                "not `chunked`",
            ),
            ("HTTP/2 200 OK\r\n", "malformed"),
            ("HTTP/1.10 200 OK\r\n", "malformed"),
            ("HTTP/1.2x 200 OK\r\n", "malformed"),
            ("HTTP/1.1 99 No\r\n", "malformed"),
        ] {
            let error = read(&format!("{head}\r\n")).expect_err(head);
            assert!(error.contains(why), "{head}: {error}");
        }
    }

    #[test]
    fn the_protocols_that_a_426_asks_for_are_kept() {
        let lines = "upgrade: websocket\r\nupgrade: x, y\r\n\r\n";
        for (status, protocols) in [("426 No", "websocket, x, y"), ("101 Yes", "x, y")] {
            let response = read(&format!("HTTP/1.1 {status}\r\n{lines}")).expect("a head");
            assert_eq!(response.upgrade.as_deref(), Some(protocols));
            assert_eq!(response.lines.as_bytes(), b"");
        }
    }

    #[test]
    fn what_belongs_to_the_connection_is_not_passed_on() {
        let response = read(
            "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\ndate: now\r\n\
             x-request-id: theirs\r\ncontent-length: 1\r\ntrailer: x-sum\r\nx-end: 2\r\n\r\n",
        )
        .expect("a head");
        assert_eq!(
            response.lines.as_bytes(),
            b"date: now\r\ntrailer: x-sum\r\nx-end: 2\r\n"
        );
        assert!(response.dated);
    }
    #[test]
    fn what_any_line_of_connection_names_is_not_passed_on() {
        for (first, second) in [("x-hop", "keep-alive"), ("close", "x-hop")] {
            let response = read(&format!(
                "HTTP/1.1 200 OK\r\nconnection: {first}\r\nconnection: {second}\r\nx-hop: 1\r\n\
                 content-length: 1\r\nx-end: 2\r\n\r\n"
            ))
            .expect("a head");
            assert_eq!(response.lines.as_bytes(), b"x-end: 2\r\n", "{first}");
            assert_eq!(response.keep_alive, first != "close");
        }
    }
}
