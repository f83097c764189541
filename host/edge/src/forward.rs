//! Headers of requests that go on: what belongs to one connection is taken out, what tells of the visitor is ours.

mod lines;
mod told;
pub(crate) mod trailers;

pub use crate::http1::target::{is_authority, is_path};
use lines::is_internal;
pub use lines::{is_alike, is_disguised, request_lines};
pub(crate) use lines::{is_hop_by_hop, names_header};
pub use told::{Told, told, told_in};
pub use trailers::{takes_trailers, without_trailers};

use crate::visitor::forwarded::elements;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use protoplex_http::Head;
use std::{borrow::Cow, net::IpAddr};

/// Headers that the host alone says of a message besides hop-by-hop ones. `Trailer` is a server's or an app's, passed on
/// with its trailers: what else makes a message has none.
const OWN: [&str; 3] = ["date", "x-request-id", "trailer"];

/// A value without white space at its ends: HTTP/1.1 takes it off on the next hop, and in HTTP/2 it is malformed
/// (RFC 9113, section 8.2.1).
pub(crate) fn trimmed(value: HeaderValue) -> HeaderValue {
    let bare = trim(value.as_bytes());
    match bare.len() == value.len() {
        true => value,
        false => HeaderValue::from_bytes(bare).unwrap_or(value),
    }
}

/// Bytes of a header's value without white space at its ends.
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether a handler must leave this header to the host.
pub fn is_of_the_host(name: &str) -> bool {
    is_hop_by_hop(name)
        || is_internal(name)
        || OWN.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Takes out hop-by-hop headers, those that `Connection` names, and the framing.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok());
    let hop = headers.keys().filter(|name| is_hop_by_hop(name.as_str()));
    let gone: Vec<HeaderName> = named.chain(hop.cloned()).collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Says who the visitor is: `X-Forwarded-*`, `Forwarded` (RFC 7239), the request id, and a `traceparent` where there
/// is no valid one. What the request said of it goes, unless it came from a trusted forwarder: that is kept, and this
/// hop added.
pub fn overwrite_forwarded(head: &Head<'_>, headers: &mut HeaderMap) {
    let said = visitor_fields(head, |name| {
        joined(headers.get_all(name).iter().map(HeaderValue::as_bytes))
    });
    let id = ("x-request-id", head.request_id.to_owned());
    for (name, value) in said.into_iter().chain([id]) {
        match HeaderValue::from_str(&value) {
            Ok(value) if !value.is_empty() => drop(headers.insert(name, value)),
            _ => drop(headers.remove(name)),
        }
    }
    let valid = headers
        .get("traceparent")
        .is_some_and(|value| is_traceparent(value.as_bytes()));
    if !valid {
        let mut made = Vec::new();
        lines::new_trace(&mut made);
        headers.remove("tracestate");
        if let Ok(made) = HeaderValue::from_bytes(&made) {
            headers.insert("traceparent", made);
        }
    }
}

/// Headers that tell of the client; nothing of the host where the client named none. `before` has the request's own
/// values, in one line; they count if a trusted forwarder said them.
fn visitor_fields(
    head: &Head<'_>,
    before: impl Fn(&str) -> Option<String>,
) -> [(&'static str, String); 4] {
    let scheme = head.scheme.as_str();
    let from = head.forwarder.unwrap_or(head.client);
    let before = |name: &str| head.forwarder.and_then(|_| before(name));
    let forwarded = before("forwarded");
    let host = before("x-forwarded-host")
        .or_else(|| asked_host(forwarded.as_deref()?, head.client))
        .unwrap_or_else(|| head.authority.to_owned());
    let hops = match before("x-forwarded-for") {
        Some(hops) => format!("{hops}, {from}"),
        // `Forwarded` alone named the client.
        None if from != head.client => format!("{}, {from}", head.client),
        None => from.to_string(),
    };
    let forwarded = match forwarded {
        Some(hops) => format!("{hops}, {}", element(from, head.authority, scheme)),
        None => element(head.client, &host, scheme),
    };
    [
        ("x-forwarded-for", hops),
        ("x-forwarded-proto", scheme.to_owned()),
        ("x-forwarded-host", host),
        ("forwarded", forwarded),
    ]
}

/// The host that a client asked for, by what a trusted forwarder says of it.
fn asked_host(forwarded: &str, client: IpAddr) -> Option<String> {
    let mut elements = elements(forwarded);
    let of_client = elements.find(|element| element.node() == Some(client))?;
    of_client.host().map(Cow::into_owned)
}

/// All values of a header, in one line. What is no ASCII is none of a forwarder's, and what is empty says nothing.
fn joined<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let text = values.filter_map(|value| std::str::from_utf8(value.trim_ascii()).ok());
    let values: Vec<&str> = text
        .filter(|value| value.is_ascii() && !value.is_empty())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// One hop of `Forwarded`.
fn element(client: IpAddr, host: &str, scheme: &str) -> String {
    let node = match client {
        IpAddr::V4(_) => client.to_string(),
        IpAddr::V6(_) => format!("\"[{client}]\""),
    };
    match host {
        "" => format!("for={node};proto={scheme}"),
        _ => format!("for={node};host=\"{host}\";proto={scheme}"),
    }
}

/// W3C Trace Context, version 00.
fn is_traceparent(value: &[u8]) -> bool {
    let hex = |part: &[u8]| {
        part.iter()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    };
    let some = |part: &[u8]| part.iter().any(|&b| b != b'0');
    value.len() == 55
        && value.starts_with(b"00-")
        && value[35] == b'-'
        && value[52] == b'-'
        && hex(&value[3..35])
        && hex(&value[36..52])
        && hex(&value[53..])
        && some(&value[3..35])
        && some(&value[36..52])
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_http::Scheme;

    /// A request that a trusted forwarder brought.
    fn forwarded() -> Head<'static> {
        Head {
            method: "GET",
            path: "/",
            authority: "inside",
            scheme: Scheme::Https,
            version: 11,
            headers: &[],
            client: [203, 0, 113, 9].into(),
            client_port: 0,
            forwarder: Some([10, 0, 0, 1].into()),
            notes: None,
            request_id: "0123456789abcdef",
            hop: Default::default(),
        }
    }

    #[test]
    fn what_the_visitor_says_of_itself_is_overwritten() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-forwarded-for", "6.6.6.6"),
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("upgrade", "h2c"),
            ("content-length", "5"),
            ("accept", "*/*"),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let head = Head {
            method: "GET",
            path: "/",
            authority: "example.com",
            scheme: Scheme::Https,
            version: 11,
            headers: &[],
            client: "2001:db8::1".parse().unwrap(),
            client_port: 0,
            forwarder: None,
            notes: None,
            request_id: "0123456789abcdef",
            hop: Default::default(),
        };
        strip_hop_by_hop(&mut headers);
        overwrite_forwarded(&head, &mut headers);
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(text("x-forwarded-for"), Some("2001:db8::1"));
        assert_eq!(
            text("forwarded"),
            Some("for=\"[2001:db8::1]\";host=\"example.com\";proto=https")
        );
        assert_eq!(
            text("traceparent"),
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        );
        assert_eq!(text("accept"), Some("*/*"));
        for gone in ["x-secret", "connection", "upgrade", "content-length"] {
            assert_eq!(text(gone), None, "{gone}");
        }
    }

    #[test]
    fn what_a_trusted_forwarder_says_is_kept_and_extended() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("forwarded", "for=203.0.113.9"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        overwrite_forwarded(&forwarded(), &mut headers);
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(
            text("x-forwarded-for"),
            Some("6.6.6.6, 203.0.113.9, 10.0.0.1")
        );
        assert_eq!(text("x-forwarded-proto"), Some("https"));
        assert_eq!(text("x-forwarded-host"), Some("shop.example"));
        assert_eq!(
            text("forwarded"),
            Some("for=203.0.113.9, for=10.0.0.1;host=\"inside\";proto=https")
        );
    }

    #[test]
    fn what_forwarded_alone_says_is_told_in_the_other_headers_too() {
        let said = "for=6.6.6.6, for=203.0.113.9;proto=https;host=\"shop.test\"";
        let mut headers = HeaderMap::new();
        headers.append("forwarded", HeaderValue::from_static(said));
        headers.append("x-forwarded-for", HeaderValue::from_static(""));
        overwrite_forwarded(&forwarded(), &mut headers);
        for (name, value) in [
            ("x-forwarded-for", "203.0.113.9, 10.0.0.1"),
            ("x-forwarded-host", "shop.test"),
            ("x-forwarded-proto", "https"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        let extended = format!("{said}, for=10.0.0.1;host=\"inside\";proto=https");
        assert_eq!(headers["forwarded"], extended);
    }
}
