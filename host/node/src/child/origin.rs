//! Where a request came in, on internal hops: beside the build, a node names the client, how it came, and the id that it
//! is told. The build's token vouches for all of it.

use protoplex_edge::Origin;
use protoplex_http::{Head, Scheme};

/// The value of [`protoplex_http::ORIGIN_HEADER`] for a request that takes its `relays`-th relay: scheme, address, port,
/// request id and that number, with a space between two of them.
pub(super) fn value(head: &Head<'_>, relays: u32) -> String {
    let scheme = head.scheme.as_str();
    let (client, port) = (head.client, head.client_port);
    format!("{scheme} {client} {port} {} {relays}", head.request_id)
}

/// Reads a value that another node wrote.
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
        relays: parts.next()?.parse().ok()?,
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
    fn a_node_reads_what_a_node_wrote_and_nothing_else() {
        for client in ["192.0.2.1", "2001:db8::1"] {
            let client = client.parse().expect("an address");
            let origin = Origin {
                client,
                client_port: 4711,
                scheme: Scheme::Https,
                request_id: *b"0123456789abcdef",
                relays: 2,
            };
            let said = value(&head(client), 2);
            assert_eq!(read(said.as_bytes()), Some(origin), "{said}");
        }
        for bad in [
            "",
            "https 192.0.2.1 4711",
            "gopher 192.0.2.1 4711 0123456789abcdef 1",
            "https example.com 4711 0123456789abcdef 1",
            "https 192.0.2.1 65536 0123456789abcdef 1",
            "https 192.0.2.1 4711 0123456789abcde 1",
            "https 192.0.2.1 4711 0123456789abcdeg 1",
            "https 192.0.2.1 4711 0123456789abcdef x",
            "https 192.0.2.1 4711 0123456789abcdef",
            "https 192.0.2.1 4711 0123456789abcdef 1 x",
        ] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }
}
