//! The PROXY protocol as it is written to servers: who the client is, before the first byte of HTTP
//! (haproxy.org/download/2.8/doc/proxy-protocol.txt, sections 2.1 and 2.2).

use protoplex_wire::manifest::ProxyProtocol;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// First bytes of version 2, with which no protocol of text begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY: a connection on behalf of another.
const PROXIED: u8 = 0x21;
/// Version 2, command LOCAL: a connection of the sender's own.
const LOCAL: u8 = 0x20;
/// TCP over IPv4.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Header for a connection from `source`, who came to `destination`; without a source, for a connection of our own (a
/// health check). Both are written as IPv6 where one of them is.
pub(super) fn header(
    version: ProxyProtocol,
    source: Option<SocketAddr>,
    destination: SocketAddr,
) -> Vec<u8> {
    let addresses = source.map(|source| same_family(source, destination));
    match version {
        ProxyProtocol::V1 => text(addresses),
        ProxyProtocol::V2 => binary(addresses),
    }
}

fn text(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((source, destination)) = addresses else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let (from_port, to_port) = (source.port(), destination.port());
    format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").into_bytes()
}

fn binary(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    let Some((source, destination)) = addresses else {
        bytes.extend([LOCAL, 0, 0, 0]);
        return bytes;
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            bytes.extend([PROXIED, TCP4, 0, 12]);
            bytes.extend([from.octets(), to.octets()].concat());
        }
        (from, to) => {
            bytes.extend([PROXIED, TCP6, 0, 36]);
            bytes.extend([as_ipv6(from).octets(), as_ipv6(to).octets()].concat());
        }
    }
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    bytes
}

fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    let (source, destination) = (plain(source), plain(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let wide = |at: SocketAddr| SocketAddr::new(as_ipv6(at.ip()).into(), at.port());
    (wide(source), wide(destination))
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(version: ProxyProtocol, source: &str, destination: &str) -> Vec<u8> {
        let source = source.parse().unwrap();
        header(version, Some(source), destination.parse().unwrap())
    }

    #[test]
    fn version_1_is_a_line_of_text() {
        for (source, destination, line) in [
            (
                "192.0.2.1:4711",
                "198.51.100.7:80",
                "PROXY TCP4 192.0.2.1 198.51.100.7 4711 80\r\n",
            ),
            (
                "[2001:db8::1]:4711",
                "[2001:db8::2]:443",
                "PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n",
            ),
            // One family for both; an address that only looks like IPv6 is none.
            (
                "[2001:db8::1]:1",
                "127.0.0.1:80",
                "PROXY TCP6 2001:db8::1 ::ffff:127.0.0.1 1 80\r\n",
            ),
            (
                "[::ffff:192.0.2.1]:1",
                "127.0.0.1:80",
                "PROXY TCP4 192.0.2.1 127.0.0.1 1 80\r\n",
            ),
        ] {
            let bytes = said(ProxyProtocol::V1, source, destination);
            assert_eq!(String::from_utf8(bytes).unwrap(), line);
        }
        let own = header(ProxyProtocol::V1, None, "127.0.0.1:80".parse().unwrap());
        assert_eq!(own, b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_is_binary() {
        let bytes = said(ProxyProtocol::V2, "192.0.2.1:258", "198.51.100.7:80");
        let (head, rest) = bytes.split_at(16);
        assert_eq!(head, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
        assert_eq!(rest, [192, 0, 2, 1, 198, 51, 100, 7, 1, 2, 0, 80]);
        let bytes = said(ProxyProtocol::V2, "[2001:db8::1]:258", "127.0.0.1:80");
        assert_eq!(bytes[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(bytes.len(), 16 + 36);
        assert_eq!(bytes[16..20], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(bytes[16 + 32..], [1, 2, 0, 80]);
        let own = header(ProxyProtocol::V2, None, "127.0.0.1:80".parse().unwrap());
        assert_eq!(own, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    }
}
