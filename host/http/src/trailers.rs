//! Trailers: who takes them, and what may be one, in every protocol and both directions.
//!
//! Whoever reads trailers may take them for headers (RFC 9110, section 6.5.1): so what frames, routes, authenticates or
//! controls a message, or what this program says of it in its head, is never one.

use crate::{
    Body, Head,
    field::{is_hop_by_hop, is_of_the_host, trimmed},
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Most bytes of a message's trailers, names and values: what clients of gRPC take of a status with its details. Heads,
/// which carry cookies, may be larger.
pub(crate) const BYTES_MAX: usize = 16 << 10;
/// Most trailer lines of a message, as many as header lines of a request.
const LINES_MAX: usize = 100;
/// Bytes of an HTTP/1.1 line besides name and value.
const LINE_BYTES: usize = 4;

/// Names that have to stand in a head, besides those that concern a connection.
const NEVER: [&str; 36] = [
    // Routing, and what a request asks for.
    "host",
    "expect",
    "max-forwards",
    "range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "early-data",
    "origin",
    "referer",
    "from",
    "via",
    // Who asks.
    "authorization",
    "cookie",
    "set-cookie",
    "www-authenticate",
    "authentication-info",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "traceparent",
    "tracestate",
    // How a response is to be taken.
    "age",
    "cache-control",
    "clear-site-data",
    "expires",
    "location",
    "pragma",
    "refresh",
    "retry-after",
    "strict-transport-security",
    "vary",
    "warning",
    "allow",
];
/// Beginnings of names that are never trailers: what describes a body, who the client is, and what nodes say to each
/// other.
const NEVER_PREFIXES: [&str; 5] = ["content-", "x-forwarded-", "proxy-", "sec-", "protoplex-"];

/// Whether a field may be a trailer. A name with `_` for `-` counts as the same: programs with headers in environment
/// variables do not tell them apart.
pub fn may_trail(name: &HeaderName) -> bool {
    let name = name.as_str();
    if !name.contains('_') {
        return is_allowed(name);
    }
    is_allowed(&name.replace('_', "-"))
}

fn is_allowed(name: &str) -> bool {
    !is_hop_by_hop(name)
        && !is_of_the_host(name)
        && !NEVER.contains(&name)
        && !NEVER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Takes out fields that may not be trailers.
///
/// # Errors
/// The trailers that are left are too large.
pub fn check(trailers: &mut HeaderMap) -> Result<(), TrailersTooLarge> {
    let gone = trailers.keys().filter(|name| !may_trail(name));
    let gone: Vec<HeaderName> = gone.cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
    for value in trailers.values_mut() {
        *value = trimmed(std::mem::replace(value, HeaderValue::from_static("")));
    }
    let mut size = TrailersSize::default();
    trailers
        .iter()
        .try_for_each(|(name, value)| size.add(name.as_str().len() + value.len()))
}

/// More trailers than a message may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its trailers are too large")]
pub struct TrailersTooLarge;

/// Size of a message's trailers so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrailersSize {
    bytes: usize,
    lines: usize,
}

impl TrailersSize {
    /// Counts a trailer of so many bytes, name and value.
    ///
    /// # Errors
    /// The trailers are too large.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), TrailersTooLarge> {
        self.bytes += bytes + LINE_BYTES;
        self.lines += 1;
        if self.bytes > BYTES_MAX || self.lines > LINES_MAX {
            return Err(TrailersTooLarge);
        }
        Ok(())
    }
}

/// Returns the body without trailers of these names: a head that sets or removes a header means its trailer, too.
pub fn without_trailers<'a>(body: Body, names: impl Iterator<Item = &'a str>) -> Body {
    if body.is_absent() {
        return body;
    }
    let names: Vec<Box<str>> = names.map(|name| canonical(name).into()).collect();
    if names.is_empty() {
        return body;
    }
    body.with_trailers(move |trailers| {
        let gone = trailers.keys().filter(|name| {
            let name = canonical(name.as_str());
            names.iter().any(|other| **other == *name)
        });
        let gone: Vec<HeaderName> = gone.cloned().collect();
        for name in gone {
            trailers.remove(name);
        }
    })
}

fn canonical(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Whether the client said that it takes trailers (RFC 9110, section 10.1.4). In HTTP/1.1 that is said to the next hop,
/// and holds for all clients behind it: so this hop may say it, too. HTTP/1.0 knows no trailers.
pub fn takes_trailers(head: &Head<'_>) -> bool {
    let said = head
        .headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("te"));
    head.version >= 11
        && said
            .flat_map(|field| field.value.split(|&byte| byte == b','))
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BodyError, HeaderField, Scheme};
    use bytes::Bytes;
    use http_body::Body as _;
    use http_body_util::{BodyExt, Full};

    #[test]
    fn what_belongs_in_a_head_is_no_trailer_however_it_is_spelt() {
        for name in [
            "host",
            "authorization",
            "cookie",
            "set-cookie",
            "content-length",
            "content-type",
            "content_length",
            "transfer-encoding",
            "transfer_encoding",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded-anything",
            "proxy-authorization",
            "protoplex-build",
            "protoplex-anything",
            "x-request-id",
            "te",
            "trailer",
            "connection",
            "upgrade",
            "if-none-match",
            "location",
            "date",
        ] {
            assert!(!may_trail(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "grpc-status",
            "grpc-message",
            "grpc-status-details-bin",
            "x-sum",
            "x_under_score",
            "etag",
            "digest",
            "server-timing",
            "hostess",
        ] {
            assert!(may_trail(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn trailers_have_a_limit_of_lines_and_of_bytes() {
        let trailers = |lines: usize, bytes: usize| {
            let lines = (0..lines).map(|at| {
                let name = HeaderName::try_from(format!("x-{at:04}")).expect("a name");
                let value = HeaderValue::try_from("y".repeat(bytes)).expect("a value");
                (name, value)
            });
            lines.collect::<HeaderMap>()
        };
        assert_eq!(check(&mut trailers(100, 100)), Ok(()));
        assert_eq!(check(&mut trailers(101, 1)), Err(TrailersTooLarge));
        assert_eq!(check(&mut trailers(1, (16 << 10) - 10)), Ok(()));
        assert_eq!(
            check(&mut trailers(1, (16 << 10) - 9)),
            Err(TrailersTooLarge)
        );
    }

    #[test]
    fn a_body_whose_trailers_are_edited_keeps_its_length() {
        let whole = Full::new(Bytes::from_static(b"whole"));
        let whole = whole.map_err(|never| -> BodyError { match never {} });
        let body = without_trailers(Body::new(whole), ["x-sum"].into_iter());
        assert_eq!(body.size_hint().exact(), Some(5));
        assert!(!body.is_end_stream());
    }

    #[test]
    fn trailers_are_taken_by_who_says_so() {
        for (value, version, taken) in [
            ("trailers", 20, true),
            ("Trailers", 11, true),
            ("deflate;q=0.5, trailers", 11, true),
            ("trailers", 10, false),
            ("gzip", 11, false),
            ("", 20, false),
        ] {
            let headers = [HeaderField {
                name: "TE",
                value: value.as_bytes(),
            }];
            let head = Head {
                method: "POST",
                path: "/",
                authority: "example.com",
                scheme: Scheme::Https,
                version,
                headers: &headers,
                client: [192, 0, 2, 1].into(),
                client_port: 0,
                forwarder: None,
                notes: None,
                request_id: "0123456789abcdef",
                hop: Default::default(),
            };
            assert_eq!(takes_trailers(&head), taken, "{value} {version}");
        }
    }
}
