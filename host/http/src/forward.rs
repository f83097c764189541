//! Headers of requests that are relayed: those of one connection are taken out, those that tell of the client are
//! written anew.

mod client;
mod element;
mod lines;
mod told;
mod trace;

pub use element::{Element, address, elements, scheme};
pub use lines::request_lines;
pub use told::{ClientField, told, told_in};

use crate::{Head, field::is_hop_by_hop};
use client::{client_fields, joined};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use trace::{is_traceparent, new_trace};

/// Takes out hop-by-hop headers, headers that `Connection` names, and the framing.
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

/// Writes the headers that tell of the client: `X-Forwarded-*`, `Forwarded` (RFC 7239), the request id, and a
/// `traceparent` where there is no valid one. What the request said of the client goes, unless it came from a trusted
/// forwarder: that is kept, and this hop added.
pub fn overwrite_forwarded(head: &Head<'_>, headers: &mut HeaderMap) {
    let said = client_fields(head, |name| {
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
        new_trace(&mut made);
        headers.remove("tracestate");
        if let Ok(made) = HeaderValue::from_bytes(&made) {
            headers.insert("traceparent", made);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scheme;

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
    fn what_the_client_says_of_itself_is_overwritten() {
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
