//! Head of a request: a view of borrows, so that nothing is copied that nobody asks for.

use crate::{AccessNotes, ClientPace, Interims};
use std::{net::IpAddr, ops::Deref, sync::OnceLock};

/// Header by which a node of the fleet tells another which build a request belongs to. Connections take it out of every
/// head: no handler sees it, and nobody else is believed who sends it.
pub const BUILD_HEADER: &str = "protoplex-build";

/// Header beside [`BUILD_HEADER`] that tells where the request came into the fleet, under a MAC of its own. Connections
/// take it out of every head.
pub const ORIGIN_HEADER: &str = "protoplex-origin";

/// Headers that a node of the fleet adds to a request that it passes on.
#[derive(Clone, Copy, Debug)]
pub struct Internal<'a> {
    /// The value of [`BUILD_HEADER`].
    pub token: &'a [u8],
    /// The value of [`ORIGIN_HEADER`].
    pub origin: Option<&'a [u8]>,
    /// Relays from node to node that the request has taken; `None` where the origin is missing or not believed.
    pub relays: Option<u32>,
}

/// Scheme that the client used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// No TLS.
    Http,
    /// Inside TLS.
    Https,
}

impl Scheme {
    /// Name of the scheme: `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// One header line. Names are as the client wrote them; compare without case.
#[derive(Clone, Copy, Debug)]
pub struct HeaderField<'a> {
    /// Name: token characters only.
    pub name: &'a str,
    /// Value: visible ASCII, spaces, tabs and bytes from 0x80.
    pub value: &'a [u8],
}

/// A request's head that has passed the connection's checks: framing is unambiguous, there is exactly
/// one authority, and the path starts with `/` (or is `*` for OPTIONS).
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Method, such as `GET`.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Host and port as the client named them; empty only in HTTP/1.0.
    pub authority: &'a str,
    /// Scheme that the client used.
    pub scheme: Scheme,
    /// Version of HTTP: 10, 11 or 20.
    pub version: u8,
    /// Header lines in order: `Host` included in HTTP/1, [`BUILD_HEADER`] and [`ORIGIN_HEADER`] never.
    pub headers: &'a [HeaderField<'a>],
    /// Address of the client, or of the last untrusted hop.
    pub client: IpAddr,
    /// Port of the client; 0 where a forwarder told no more than the address.
    pub client_port: u16,
    /// Trusted forwarder that sent the request, if one did: what its forwarding headers say holds.
    pub forwarder: Option<IpAddr>,
    /// Id of this request, in the response and the log; 16 hexadecimal digits.
    pub request_id: &'a str,
    /// Fields of the access log that the service fills in, where there is a log.
    pub notes: Option<&'a AccessNotes>,
    /// What the request says of its own connection.
    pub hop: Hop<'a>,
}

/// Id of a request, for as long as it is answered.
#[derive(Clone, Copy, Debug)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// Takes the id of a request. Its first 16 characters are all of it.
    pub fn of(head: &Head<'_>) -> Self {
        let mut id = [b'-'; 16];
        for (digit, from) in id.iter_mut().zip(head.request_id.bytes()) {
            *digit = from;
        }
        Self(id)
    }
}

impl Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// What a request says of its own connection: relays say the like of another connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hop<'a> {
    /// Protocol that the client wants to go on with: that of `Upgrade` with `Connection: upgrade`, or of an extended
    /// CONNECT (RFC 8441).
    pub upgrade: Option<&'a str>,
    /// Whether the client waits for `100 Continue` before it sends its body.
    pub expects_continue: bool,
    /// Headers of another node of the fleet; none on public listeners.
    pub internal: Option<Internal<'a>>,
    /// Where interim responses go, if the client can be told.
    pub interims: Option<&'a Interims>,
    /// Where the service sets the pace that the client has to keep, if not the usual one.
    pub pace: Option<&'a OnceLock<ClientPace>>,
}

impl<'a> Head<'a> {
    /// Finds the first value of a header, by lower-case name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers
            .iter()
            .find(|h| h.name.eq_ignore_ascii_case(name))
            .map(|h| h.value)
    }

    /// Finds all values of a header, by lower-case name, in order. A list may stand in several lines, which are one
    /// list (RFC 9110, section 5.3).
    pub fn header_lines<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.headers
            .iter()
            .filter(move |h| h.name.eq_ignore_ascii_case(name))
            .map(|h| h.value)
    }

    /// Finds the members of a header that is a list of tokens, without spaces around them, in all its lines.
    pub fn header_list<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.header_lines(name)
            .flat_map(|line| line.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
    }

    /// Finds the first value of a header, if that is ASCII text.
    pub fn header_str(&self, name: &str) -> Option<&'a str> {
        self.header(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Host without its port, as written.
    pub fn host(&self) -> &'a str {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => self.authority,
        }
    }

    /// Path without its query.
    pub fn path_only(&self) -> &'a str {
        self.path
            .split_once('?')
            .map_or(self.path, |(path, _)| path)
    }

    /// Whether the response must have no body.
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}
