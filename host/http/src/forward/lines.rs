//! Header lines of relayed requests: one pass over the head, nothing allocated but the text.

use super::{
    client::{client_fields, joined},
    trace::{is_traceparent, new_trace},
};
use crate::{
    Head, HeaderField,
    field::{FieldKind, kind, names_header},
};
use std::{io::Write, net::IpAddr};

/// Appends the end-to-end header lines of a request: `host` first if there is one, then those of the client, then those
/// that tell of the client, as they came where `keeps_forwarded` (a node of ours wrote them), else written by us. Names
/// that `without` tells are left out.
pub fn request_lines(
    out: &mut Vec<u8>,
    head: &Head<'_>,
    host: &str,
    keeps_forwarded: bool,
    without: impl Fn(&str) -> bool,
) {
    if !host.is_empty() {
        line(out, "host", host.as_bytes());
    }
    // `Connection` may stand in several lines, and the first may be the harmless one.
    let nominates = head.headers.iter().any(is_nominating);
    let traceparent = head
        .header("traceparent")
        .filter(|value| is_traceparent(value));
    for field in head.headers {
        let passes = match kind(field.name) {
            FieldKind::Host | FieldKind::Hop | FieldKind::Internal => false,
            // No node writes a disguised name, and none vouches for it.
            FieldKind::Forwarding => keeps_forwarded && !field.name.contains('_'),
            FieldKind::TraceParent | FieldKind::TraceState => traceparent.is_some(),
            FieldKind::Plain => true,
        };
        let nominated = nominates && is_nominated(head, field.name);
        if passes && !nominated && !without(field.name) {
            line(out, field.name, field.value);
        }
    }
    if !keeps_forwarded {
        client_lines(out, head, &without);
    }
    if traceparent.is_none() && !without("traceparent") {
        out.extend_from_slice(b"traceparent: ");
        new_trace(out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends `X-Forwarded-*`, `Forwarded` (RFC 7239) and the request id.
fn client_lines(out: &mut Vec<u8>, head: &Head<'_>, without: &impl Fn(&str) -> bool) {
    if head.forwarder.is_some() {
        let values = |name: &str| {
            let all = head.headers.iter();
            let same = all.filter(|field| field.name.eq_ignore_ascii_case(name));
            joined(same.map(|field| field.value))
        };
        let id = ("x-request-id", head.request_id.to_owned());
        for (name, value) in client_fields(head, values).into_iter().chain([id]) {
            if !value.is_empty() && !without(name) {
                line(out, name, value.as_bytes());
            }
        }
        return;
    }
    // The usual case: the values of `client_fields`, without an allocation.
    let (scheme, host) = (head.scheme.as_str(), head.authority);
    if !without("x-forwarded-for") {
        out.extend_from_slice(b"x-forwarded-for: ");
        address(out, head.client);
        out.extend_from_slice(b"\r\n");
    }
    if !without("x-forwarded-proto") {
        line(out, "x-forwarded-proto", scheme.as_bytes());
    }
    if !host.is_empty() && !without("x-forwarded-host") {
        line(out, "x-forwarded-host", host.as_bytes());
    }
    if !without("forwarded") {
        let (open, close) = match head.client {
            IpAddr::V4(_) => ("forwarded: for=", ""),
            IpAddr::V6(_) => ("forwarded: for=\"[", "]\""),
        };
        out.extend_from_slice(open.as_bytes());
        address(out, head.client);
        let (before, after) = match host {
            "" => ("", ""),
            _ => (";host=\"", "\""),
        };
        for part in [close, before, host, after, ";proto=", scheme, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    if !without("x-request-id") {
        line(out, "x-request-id", head.request_id.as_bytes());
    }
}

/// Appends an address, the usual kind by hand: formatting costs as much as all other lines together.
fn address(out: &mut Vec<u8>, client: IpAddr) {
    let IpAddr::V4(client) = client else {
        // Writing to memory cannot fail.
        let _ = write!(out, "{client}");
        return;
    };
    for (at, octet) in client.octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        if octet >= 100 {
            out.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            out.push(b'0' + octet / 10 % 10);
        }
        out.push(b'0' + octet % 10);
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether a line is a `Connection` that may name a header that would be passed on.
fn is_nominating(field: &HeaderField<'_>) -> bool {
    field.name.eq_ignore_ascii_case("connection") && names_header(field.value)
}

fn is_nominated(head: &Head<'_>, name: &str) -> bool {
    head.headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("connection"))
        .flat_map(|field| field.value.split(|&byte| byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scheme, field::is_disguised};

    #[test]
    fn an_address_is_written_as_it_is_formatted() {
        for client in [
            "0.0.0.0",
            "9.10.99.100",
            "101.110.200.255",
            "2001:db8::1",
            "::ffff:1.2.3.4",
        ] {
            let mut out = Vec::new();
            address(&mut out, client.parse().expect("an address"));
            assert_eq!(out, client.as_bytes());
        }
    }

    fn lines(fields: &[(&'static str, &'static str)], keeps_forwarded: bool) -> String {
        lines_from(fields, keeps_forwarded, None)
    }

    fn lines_from(
        fields: &[(&'static str, &'static str)],
        keeps_forwarded: bool,
        forwarder: Option<IpAddr>,
    ) -> String {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| HeaderField {
                name,
                value: value.as_bytes(),
            })
            .collect();
        let head = Head {
            method: "GET",
            path: "/",
            authority: "example.com",
            scheme: Scheme::Https,
            version: 11,
            headers: &fields,
            client: "2001:db8::1".parse().expect("an address"),
            client_port: 0,
            forwarder,
            request_id: "0123456789abcdef",
            notes: None,
            hop: Default::default(),
        };
        let mut out = Vec::new();
        let without = |name: &str| name == "x-secret";
        request_lines(&mut out, &head, head.authority, keeps_forwarded, without);
        String::from_utf8(out).expect("text")
    }

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const SAID: [(&str, &str); 15] = [
        ("Host", "evil.test"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "evil.test"),
        ("Forwarded", "for=6.6.6.6"),
        ("X-Request-Id", "mine"),
        ("Connection", "close, X-Private"),
        ("X-Private", "1"),
        ("Keep-Alive", "5"),
        ("Upgrade", "h2c"),
        ("TE", "trailers"),
        ("Content-Length", "5"),
        ("x-secret", "1"),
        ("Accept", "*/*"),
        ("traceparent", TRACE),
    ];

    #[test]
    fn what_the_client_says_of_itself_is_overwritten() {
        assert_eq!(
            lines(&SAID, false),
            format!(
                "host: example.com\r\nAccept: */*\r\ntraceparent: {TRACE}\r\nx-forwarded-for: 2001:db8::1\r\n\
                 x-forwarded-proto: https\r\nx-forwarded-host: example.com\r\n\
                 forwarded: for=\"[2001:db8::1]\";host=\"example.com\";proto=https\r\nx-request-id: 0123456789abcdef\r\n"
            )
        );
    }

    #[test]
    fn what_any_line_of_connection_names_is_left_out() {
        let usual = ("Connection", "keep-alive");
        let naming = ("connection", "X-Private");
        for fields in [[usual, naming], [naming, usual]] {
            let all = [&fields[..], &[("X-Private", "1"), ("Accept", "*/*")]].concat();
            let said = lines(&all, false);
            assert!(!said.contains("X-Private"), "{said}");
            assert!(said.contains("Accept: */*\r\n"), "{said}");
        }
    }

    #[test]
    fn trailers_that_pass_may_be_announced() {
        let said = lines(&[("Trailer", "x-sum"), ("Accept", "*/*")], false);
        assert!(said.contains("Trailer: x-sum\r\n"), "{said}");
        // A trailer that was announced to this hop alone is not.
        let said = lines(&[("Trailer", "x-sum"), ("Connection", "trailer")], false);
        assert!(!said.contains("Trailer"), "{said}");
    }

    #[test]
    fn what_a_node_of_ours_says_is_kept() {
        let kept = lines(&SAID, true);
        for line in [
            "X-Forwarded-For: 6.6.6.6",
            "Forwarded: for=6.6.6.6",
            "X-Request-Id: mine",
        ] {
            assert!(kept.contains(line), "{line} in {kept}");
        }
        for gone in [
            "evil.test\r\nX-Forwarded-For",
            "Private",
            "Keep-Alive",
            "Upgrade",
            "TE:",
        ] {
            assert!(!kept.contains(gone), "{gone} in {kept}");
        }
    }

    #[test]
    fn what_a_trusted_forwarder_says_is_kept_and_extended() {
        let said = lines_from(
            &[
                ("X-Forwarded-For", "2001:db8::1"),
                ("X-Forwarded-Host", "shop.test"),
            ],
            false,
            Some([10, 0, 0, 1].into()),
        );
        for line in [
            "x-forwarded-for: 2001:db8::1, 10.0.0.1\r\n",
            "x-forwarded-host: shop.test\r\n",
            "x-forwarded-proto: https\r\n",
        ] {
            assert!(said.contains(line), "{line} in {said}");
        }
        assert!(!said.contains("X-Forwarded"), "{said}");
    }

    #[test]
    fn what_stands_for_another_header_to_cgi_is_left_out() {
        let disguised = [
            ("X_Forwarded_For", "6.6.6.6"),
            ("x-forwarded_proto", "https"),
            ("Content_Length", "5"),
            ("Transfer_Encoding", "chunked"),
            ("protoplex_build", "0:0"),
            ("api_key", "1"),
        ];
        for keeps_forwarded in [false, true] {
            let said = lines(&disguised, keeps_forwarded);
            assert!(
                said.starts_with("host: example.com\r\napi_key: 1\r\n"),
                "{said}"
            );
            for (name, _) in &disguised[..5] {
                assert!(!said.contains(&format!("{name}:")), "{name} in {said}");
                assert!(is_disguised(name), "{name}");
            }
        }
        assert!(!is_disguised("api_key") && !is_disguised("content-length"));
    }

    #[test]
    fn what_is_left_out_is_not_written_either() {
        let head_lines = |without: &str| {
            let head = Head {
                method: "GET",
                path: "/",
                authority: "example.com",
                scheme: Scheme::Https,
                version: 11,
                headers: &[],
                client: [192, 0, 2, 1].into(),
                client_port: 0,
                forwarder: None,
                request_id: "0123456789abcdef",
                notes: None,
                hop: Default::default(),
            };
            let mut out = Vec::new();
            request_lines(&mut out, &head, "", false, |name| name == without);
            String::from_utf8(out).expect("text")
        };
        assert!(!head_lines("").contains("\r\nhost:"), "there is none");
        for name in [
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "forwarded",
            "x-request-id",
            "traceparent",
        ] {
            let (with, without) = (head_lines(""), head_lines(name));
            let count = |text: &str| text.matches("\r\n").count();
            assert_eq!(count(&without) + 1, count(&with), "{name}: {without}");
            assert!(
                !format!("\r\n{without}").contains(&format!("\r\n{name}: ")),
                "{without}"
            );
        }
    }

    #[test]
    fn a_traceparent_is_made_where_there_is_no_valid_one() {
        let made = lines(&[("traceparent", "00-0-0-0"), ("tracestate", "a=1")], false);
        let value = made
            .lines()
            .find_map(|line| line.strip_prefix("traceparent: "))
            .expect("one was made");
        assert!(is_traceparent(value.as_bytes()), "{value}");
        assert!(!made.contains("tracestate"), "{made}");
    }
}
