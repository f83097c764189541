//! Where a request came in, on internal hops: beside the build, a node names the client, how it came, and the id that it
//! is told. The build's token vouches for all of it.

use super::hop::HOP_HEADER;
use protoplex_edge::Origin;
use protoplex_http::{Head, Scheme};

/// Carries scheme, address, port and request id, with a space between two of them.
pub(super) const ORIGIN_HEADER: &str = "protoplex-origin";

/// The header's value for a request.
pub(super) fn value(head: &Head<'_>) -> String {
    let scheme = head.scheme.as_str();
    let (client, port) = (head.client, head.client_port);
    format!("{scheme} {client} {port} {}", head.request_id)
}

/// Adds what an internal hop says to a request's text, right behind the request line: a node that finds a head large
/// looks there for whom it is from.
pub(super) fn add(text: &mut Vec<u8>, hop: &str, origin: &str) {
    let at = text
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    let lines = format!("{HOP_HEADER}: {hop}\r\n{ORIGIN_HEADER}: {origin}\r\n");
    text.splice(at..at, lines.into_bytes());
}

/// What another node wrote.
pub(super) fn read(value: &[u8]) -> Option<Origin> {
    let mut parts = std::str::from_utf8(value).ok()?.split(' ');
    let scheme = match parts.next()? {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return None,
    };
    let origin = Origin {
        scheme,
        client: parts.next()?.parse().ok()?,
        client_port: parts.next()?.parse().ok()?,
        request_id: parts.next().filter(is_id)?.as_bytes().try_into().ok()?,
    };
    parts.next().is_none().then_some(origin)
}

fn is_id(text: &&str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn head(client: IpAddr) -> Head<'static> {
        Head {
            method: "GET",
            path: "/",
            authority: "example.com",
            scheme: Scheme::Https,
            version: 11,
            headers: &[],
            client,
            client_port: 4711,
            forwarder: None,
            request_id: "0123456789abcdef",
            notes: None,
            hop: Default::default(),
        }
    }

    #[test]
    fn what_a_hop_says_stands_behind_the_request_line() {
        let mut text = b"GET / HTTP/1.1\r\nhost: a\r\n".to_vec();
        add(&mut text, "1:2", "http 192.0.2.1 1 0");
        let expected = "GET / HTTP/1.1\r\nprotoplex-build: 1:2\r\nprotoplex-origin: http 192.0.2.1 1 0\r\nhost: a\r\n";
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    #[test]
    fn a_node_reads_what_a_node_wrote_and_nothing_else() {
        for client in ["192.0.2.1", "2001:db8::1"] {
            let client = client.parse().expect("an address");
            let origin = Origin {
                client,
                client_port: 4711,
                scheme: Scheme::Https,
                request_id: *b"0123456789abcdef",
            };
            let said = value(&head(client));
            assert_eq!(read(said.as_bytes()), Some(origin), "{said}");
        }
        for bad in [
            "",
            "https 192.0.2.1 4711",
            "gopher 192.0.2.1 4711 0123456789abcdef",
            "https example.com 4711 0123456789abcdef",
            "https 192.0.2.1 65536 0123456789abcdef",
            "https 192.0.2.1 4711 0123456789abcde",
            "https 192.0.2.1 4711 0123456789abcdeg",
            "https 192.0.2.1 4711 0123456789abcdef x",
        ] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }
}
