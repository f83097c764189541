//! Fields of a request that concern its connection alone: framing, host, persistence, `Expect` and `Upgrade`.

use super::RequestFraming;
use crate::refusal::{HttpRefusal, bad};
use http::StatusCode;
use protoplex_http::{HeaderField, target::is_authority};

/// What the fields of a request say of its own connection and of the framing of its body.
pub(super) struct RequestHopFields<'a> {
    pub(super) framing: RequestFraming,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) host: Option<&'a str>,
    /// The protocol that the client wants to go on with, where `Connection` names `Upgrade`.
    pub(super) upgrade: Option<&'a str>,
}

/// [`RequestHopFields`] while the head is read.
#[derive(Default)]
struct FieldReader<'a> {
    length: Option<u64>,
    is_chunked: bool,
    host: Option<&'a str>,
    connection: ConnectionOptions,
    expects_continue: bool,
    upgrade: Option<&'a str>,
}

/// Options of `Connection` that matter here.
#[derive(Default)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl<'a> RequestHopFields<'a> {
    pub(super) fn read(headers: &[HeaderField<'a>], version: u8) -> Result<Self, HttpRefusal> {
        let mut read = FieldReader::default();
        for field in headers {
            read.field(field, version)?;
        }
        let framing = match (read.length, read.is_chunked) {
            (Some(_), true) => return Err(bad("both Content-Length and Transfer-Encoding")),
            (None, true) => RequestFraming::Chunked,
            (None | Some(0), false) => RequestFraming::None,
            (Some(length), false) => RequestFraming::Length(length),
        };
        if version >= 11 && read.host.is_none() {
            return Err(bad("Host is missing"));
        }
        let options = &read.connection;
        Ok(Self {
            framing,
            keep_alive: (version >= 11 || options.keep_alive) && !options.close,
            expects_continue: read.expects_continue && version >= 11,
            host: read.host,
            upgrade: read.upgrade.filter(|_| options.upgrade && version >= 11),
        })
    }
}

impl<'a> FieldReader<'a> {
    /// Takes one field, told by the length of the name first: most fields are none of these.
    #[inline]
    fn field(&mut self, field: &HeaderField<'a>, version: u8) -> Result<(), HttpRefusal> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 if is("host") => {
                let value = std::str::from_utf8(field.value).ok();
                let host = value.filter(|value| is_authority(value));
                let host = host.ok_or(bad("Host is malformed"))?;
                if self.host.replace(host).is_some() {
                    return Err(bad("Host stands twice"));
                }
            }
            6 if is("expect") => {
                let mut expected = tokens(field.value);
                self.expects_continue |=
                    expected.any(|one| one.eq_ignore_ascii_case(b"100-continue"));
            }
            7 if is("upgrade") => self.upgrade = preferred(self.upgrade, field.value),
            10 if is("connection") => self.connection.read(field.value),
            14 if is("content-length") && self.length.replace(digits(field.value)?).is_some() => {
                return Err(bad("Content-Length stands twice"));
            }
            17 if is("transfer-encoding") => self.transfer_encoding(field.value, version)?,
            _ => {}
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8], version: u8) -> Result<(), HttpRefusal> {
        if version < 11 {
            return Err(bad("Transfer-Encoding in HTTP/1.0"));
        }
        if self.is_chunked {
            return Err(bad("Transfer-Encoding stands twice"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(HttpRefusal(
                StatusCode::NOT_IMPLEMENTED,
                "only `chunked` is known",
            ));
        }
        self.is_chunked = true;
        Ok(())
    }
}

impl ConnectionOptions {
    fn read(&mut self, value: &[u8]) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            }
        }
    }
}

/// Members of a list, without spaces around them.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Protocol that a request is taken to ask for, of the lists in all lines of its `Upgrade` (RFC 9110, section 7.8):
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

fn digits(value: &[u8]) -> Result<u64, HttpRefusal> {
    let text = std::str::from_utf8(value)
        .ok()
        .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|text| text.parse().ok())
        .ok_or(bad("Content-Length is no number"))
}
