//! Header fields by their names: which concern one connection alone, which tell of the client, which only nodes of the
//! fleet write.

use http::HeaderValue;

/// Headers that the host alone writes, besides hop-by-hop ones. `Trailer` is a server's or an app's, passed on with its
/// trailers: what else makes a message has none.
const OWN: [&str; 3] = ["date", "x-request-id", "trailer"];

/// Kind of a header, as a relay has to treat it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldKind {
    Host,
    /// The header concerns the connection that it came on.
    Hop,
    /// The header tells of the client.
    Forwarding,
    /// The header is one by which nodes of the fleet tell each other something.
    Internal,
    TraceParent,
    TraceState,
    Plain,
}

/// Names of headers that are [`FieldKind::Forwarding`]. A position is the header's number in MACs: append, do not reorder.
const TOLD_OF_CLIENT: [&str; 5] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// Whether a byte may stand in a header's name (RFC 9110, section 5.6.2: a token).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Finds the kind of a header, by the length of its name first: most names are none of these, and are let through after
/// one comparison of numbers. A name with `_` for `-` counts as the same: to servers that make variables of headers, as
/// CGI does, it is.
#[inline]
pub(crate) fn kind(name: &str) -> FieldKind {
    let candidates: &[(&str, FieldKind)] = match name.len() {
        2 => &[("te", FieldKind::Hop)],
        4 => &[("host", FieldKind::Host)],
        6 => &[("expect", FieldKind::Hop)],
        7 => &[("upgrade", FieldKind::Hop)],
        9 => &[("forwarded", FieldKind::Forwarding)],
        10 => &[
            ("connection", FieldKind::Hop),
            ("keep-alive", FieldKind::Hop),
            ("tracestate", FieldKind::TraceState),
        ],
        11 => &[("traceparent", FieldKind::TraceParent)],
        12 => &[("x-request-id", FieldKind::Forwarding)],
        14 => &[("content-length", FieldKind::Hop)],
        15 => &[
            ("x-forwarded-for", FieldKind::Forwarding),
            ("protoplex-build", FieldKind::Internal),
        ],
        16 => &[
            ("proxy-connection", FieldKind::Hop),
            ("x-forwarded-host", FieldKind::Forwarding),
            ("protoplex-origin", FieldKind::Internal),
        ],
        17 => &[
            ("transfer-encoding", FieldKind::Hop),
            ("x-forwarded-proto", FieldKind::Forwarding),
        ],
        18 => &[("proxy-authenticate", FieldKind::Hop)],
        19 => &[("proxy-authorization", FieldKind::Hop)],
        _ => &[],
    };
    candidates
        .iter()
        .find(|(known, _)| is_alike(known, name))
        .map_or(FieldKind::Plain, |(_, kind)| *kind)
}

/// Whether two names of headers are one, without case, to a server that takes `_` for `-`.
#[inline]
pub fn is_alike(one: &str, other: &str) -> bool {
    let plain = |byte: u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    one.len() == other.len()
        && (one.bytes().zip(other.bytes())).all(|(one, other)| plain(one) == plain(other))
}

/// Whether a name passes for one that the platform writes, or that frames a message, by `_` for `-`.
pub fn is_disguised(name: &str) -> bool {
    name.contains('_') && kind(name) != FieldKind::Plain
}

/// Whether nodes of the fleet tell each other something by this header, which nobody else may.
pub(crate) fn is_internal(name: &str) -> bool {
    kind(name) == FieldKind::Internal
}

/// Number of a header that tells of the client; `None` for all others, also for those that only look like one.
pub(crate) fn told_of_client(name: &str) -> Option<u8> {
    let name = (kind(name) == FieldKind::Forwarding && !name.contains('_')).then_some(name)?;
    let known = TOLD_OF_CLIENT.iter();
    let at = known.take_while(|known| !known.eq_ignore_ascii_case(name));
    Some(at.count() as u8)
}

/// Whether a header concerns one connection alone, framing included.
#[inline]
pub fn is_hop_by_hop(name: &str) -> bool {
    kind(name) == FieldKind::Hop
}

/// Whether a handler must leave this header to the host.
pub fn is_of_the_host(name: &str) -> bool {
    is_hop_by_hop(name)
        || is_internal(name)
        || OWN.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a value of `Connection` is none of the usual two, which name no header that is passed on.
#[inline]
pub fn names_header(value: &[u8]) -> bool {
    !value.eq_ignore_ascii_case(b"keep-alive") && !value.eq_ignore_ascii_case(b"close")
}

/// Takes white space off the ends of a value: HTTP/1.1 takes it off on the next hop, and in HTTP/2 it is malformed (RFC
/// 9113, section 8.2.1).
pub fn trimmed(value: HeaderValue) -> HeaderValue {
    let bare = trim(value.as_bytes());
    match bare.len() == value.len() {
        true => value,
        false => HeaderValue::from_bytes(bare).unwrap_or(value),
    }
}

/// Takes white space off the ends of a value's bytes.
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
