//! Fields of a response that concern its connection alone: framing, persistence, and the protocol to go on with.

use super::ResponseContext;
use crate::framing::Framing;
use http::StatusCode;
use protoplex_http::field::names_header;

/// What the fields of a response say of its own connection and of the framing of its body.
pub(super) struct ResponseHopFields<'a> {
    pub(super) length: Option<u64>,
    chunked: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: Option<&'a str>,
    /// Whether a line of `Connection` may name headers that would be passed on: nearly always none does.
    nominates: bool,
    headers: &'a [httparse::Header<'a>],
}

impl<'a> ResponseHopFields<'a> {
    pub(super) fn of(headers: &'a [httparse::Header<'a>], minor: u8) -> Result<Self, &'static str> {
        let mut fields = Self {
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
                    fields.upgrade = std::str::from_utf8(header.value).ok();
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    fields.nominates |= names_header(header.value);
                    for token in tokens(header.value) {
                        if token.eq_ignore_ascii_case(b"close") {
                            fields.keep_alive = false;
                        } else if minor == 0 && token.eq_ignore_ascii_case(b"keep-alive") {
                            fields.keep_alive = true;
                        }
                    }
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    for value in tokens(header.value) {
                        let length = digits(value).ok_or("its Content-Length is no number")?;
                        if fields
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
                    if fields.chunked || !is_chunked || codings.next().is_some() {
                        return Err("its Transfer-Encoding is not `chunked`");
                    }
                    if minor == 0 {
                        return Err("it has Transfer-Encoding in HTTP/1.0");
                    }
                    fields.chunked = true;
                }
                _ => {}
            }
        }
        if fields.chunked && fields.length.is_some() {
            return Err("it has both Content-Length and Transfer-Encoding");
        }
        Ok(fields)
    }

    /// How the body is framed (RFC 9112, section 6.3).
    pub(super) fn framing(&self, status: StatusCode, asked: ResponseContext) -> Framing {
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

    /// Whether the head announces a body that its status does not have. A 304 may tell the length of what it stands
    /// for.
    pub(super) fn may_have_body_all_the_same(&self, status: StatusCode) -> bool {
        let has_length = self.length.is_some_and(|length| length > 0);
        is_bodiless(status) && (self.chunked || (has_length && status != StatusCode::NOT_MODIFIED))
    }

    /// Whether `Connection` names that header.
    pub(super) fn nominates(&self, name: &str) -> bool {
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
