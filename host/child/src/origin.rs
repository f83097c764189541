//! Where a request came in, on internal hops: beside the build, a node names the client, how it came, and the id that it
//! is told. A MAC by the token's key stands at the end, over all of that and over the forwarding headers: an app knows its
//! client by those alone.

use hmac::{Hmac, Mac};
use protoplex_fleet::build_token::BuildToken;
use protoplex_http::{
    Head, HeaderField, Scheme,
    forward::{self, ClientField},
};
use protoplex_server::Origin;
use sha2::Sha256;

/// Bytes of a MAC that are sent: 2^128 cannot be tried in the minutes in which a token is good.
const MAC_BYTES: usize = 16;

/// What a node says of a request that takes its `relays`-th relay: scheme, address, port, request id and that number,
/// with a space between two of them.
pub(super) fn text(head: &Head<'_>, relays: u32) -> String {
    let scheme = head.scheme.as_str();
    let (client, port) = (head.client, head.client_port);
    format!("{scheme} {client} {port} {} {relays}", head.request_id)
}

/// The value of [`protoplex_http::ORIGIN_HEADER`]: the text, a space and its MAC. `head` is the request as it goes out.
pub(super) fn sign(text: &str, token: &BuildToken, head: &[u8]) -> String {
    let mac = mac(text.as_bytes(), token, forward::told_in(head));
    let mac = hex::encode(&mac.finalize().into_bytes()[..MAC_BYTES]);
    format!("{text} {mac}")
}

/// Reads a value, if a node wrote it beside that token and these lines.
pub(super) fn read(value: &[u8], token: &BuildToken, fields: &[HeaderField<'_>]) -> Option<Origin> {
    let (text, said) = std::str::from_utf8(value).ok()?.rsplit_once(' ')?;
    let mut bytes = [0; MAC_BYTES];
    hex::decode_to_slice(said, &mut bytes).ok()?;
    mac(text.as_bytes(), token, forward::told(fields))
        .verify_truncated_left(&bytes)
        .ok()?;
    parse(text)
}

/// The MAC of an origin's text and the lines that tell of the client. None of them has a line's end in it, so what is
/// hashed reads in one way.
fn mac<'a>(
    text: &[u8],
    token: &BuildToken,
    told: impl Iterator<Item = ClientField<'a>>,
) -> Hmac<Sha256> {
    let mut mac = token.origin_mac();
    mac.update(text);
    for line in told {
        mac.update(&[b'\n', line.header]);
        mac.update(line.value);
    }
    mac
}

fn parse(text: &str) -> Option<Origin> {
    let mut parts = text.split(' ');
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
    use protoplex_fleet::build_token::HopKey;
    use protoplex_wire::BuildId;
    use std::{
        net::IpAddr,
        sync::Arc,
        time::{Duration, SystemTime},
    };

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
            let said = text(&head(client), 2);
            assert_eq!(parse(&said), Some(origin), "{said}");
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
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    /// A build's token of a minute after the first of 2027 began.
    fn token(secret: &str, build: &[u8], minute: u64) -> Arc<BuildToken> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600 + 60 * minute);
        let token = HopKey::new(&secret.repeat(32)).make(&BuildId::of(build), now);
        token.expect("it has a secret")
    }

    #[test]
    fn an_origin_is_believed_beside_its_own_token_and_headers_alone() {
        let ours = token("ab", b"build", 0);
        let out = "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.1\r\nx: 1\r\n";
        let said = text(&head([192, 0, 2, 1].into()), 1);
        let value = sign(&said, &ours, out.as_bytes());
        fn field<'a>(name: &'a str, value: &'a str) -> HeaderField<'a> {
            let value = value.as_bytes();
            HeaderField { name, value }
        }
        let fields = [
            field("host", "a"),
            field("x-forwarded-for", "192.0.2.1"),
            field("x", "1"),
        ];
        let read_by = |token: &BuildToken| read(value.as_bytes(), token, &fields);
        assert_eq!(read_by(&ours), parse(&said));
        // Another fleet's, another build's, another minute's.
        for other in [
            token("cd", b"build", 0),
            token("ab", b"other", 0),
            token("ab", b"build", 1),
        ] {
            assert_eq!(read_by(&other), None);
        }
        let mac = &value[said.len()..];
        for tampered in [
            value.replace("192.0.2.1", "192.0.2.2"),
            value.replace("https", "http"),
            value.replace("4711", "4712"),
            value.replace("0123456789abcdef", "0123456789abcdee"),
            format!("{} 0{mac}", said.trim_end_matches(" 1")),
            said.clone(),
            format!("{said} "),
            value[..value.len() - 2].to_owned(),
            format!("{value}00"),
        ] {
            assert_ne!(tampered, value);
            assert_eq!(
                read(tampered.as_bytes(), &ours, &fields),
                None,
                "{tampered}"
            );
        }
        let lie = field("X-Forwarded-For", "6.6.6.6");
        let id = field("x-request-id", "mine");
        for lies in [
            vec![lie],
            vec![lie, fields[1]],
            vec![fields[1], lie],
            vec![fields[1], id],
            vec![field("forwarded", "192.0.2.1")],
            vec![],
        ] {
            assert_eq!(read(value.as_bytes(), &ours, &lies), None, "{lies:?}");
        }
    }
}
