//! The allow-list of a handler's outgoing requests.

use http::Uri;
use protoplex_wire::OutgoingGrant;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wasmtime_wasi_http::Error;

/// Deny by default.
#[derive(Debug)]
pub(crate) struct Policy(Vec<OutgoingGrant>);

impl Policy {
    /// Reads `grants.outgoing`. An entry that cannot be read, which a checked manifest does not have, allows nothing.
    pub(crate) fn new(grants: &[String]) -> Self {
        let grants = grants.iter().filter_map(|text| text.parse().ok());
        Self(grants.collect())
    }

    /// Refuses what no entry names: by scheme, host and port, and by address where the host is one.
    pub(crate) fn check_request(&self, uri: &Uri) -> Result<(), Error> {
        if uri.path().is_empty() || !uri.path().starts_with('/') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let default_port = if uri.scheme_str() == Some("http") {
            80
        } else {
            443
        };
        let port = uri.port_u16().unwrap_or(default_port);
        let mut grants = self.0.iter();
        match grants.any(|grant| grant.has_host(host) && grant.has_port(port)) {
            true => Ok(()),
            false => Err(Error::HttpRequestDenied),
        }
    }

    /// Whether a name may lead to this address.
    pub(crate) fn allows_address(&self, name: &str, address: IpAddr) -> bool {
        let mut grants = self.0.iter();
        is_public(address) || grants.any(|grant| grant.allows_private() && grant.has_host(name))
    }
}

/// Prefixes that the IANA IPv4 Special-Purpose Address Registry does not call globally reachable, and multicast: first
/// address and length of each.
const SPECIAL_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Shared by the customers of a provider, and by clouds for services of their own.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local: also where clouds keep what an instance may know, its credentials included.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    // Relays of 6to4, which are no more.
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Prefixes that the registry calls globally reachable within one that is not: anycast of PCP and TURN.
const REACHABLE_V4: [(Ipv4Addr, u32); 2] = [
    (Ipv4Addr::new(192, 0, 0, 9), 32),
    (Ipv4Addr::new(192, 0, 0, 10), 32),
];

/// Prefixes that the IPv6 registry does not call globally reachable, within 2000::/3, which is all that is given out.
const SPECIAL_V6: [(Ipv6Addr, u32); 4] = [
    // The IETF's own: Teredo, which wraps IPv4, benchmarks, the first ORCHID.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4, which wraps IPv4. A public address within does not make it public: it may be our own, with our network behind.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Prefixes that the registry calls globally reachable within 2001::/23.
const REACHABLE_V6: [(Ipv6Addr, u32); 7] = [
    // Anycast of PCP, TURN and DNS-SD.
    (Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 1), 128),
    (Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 2), 128),
    (Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 3), 128),
    // AMT, and AS112, which answers DNS for addresses that have no name.
    (Ipv6Addr::new(0x2001, 3, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2001, 4, 0x112, 0, 0, 0, 0, 0), 48),
    // ORCHID version 2, and tags of drones.
    (Ipv6Addr::new(0x2001, 0x20, 0, 0, 0, 0, 0, 0), 28),
    (Ipv6Addr::new(0x2001, 0x30, 0, 0, 0, 0, 0, 0), 28),
];

/// Where a network with IPv6 alone finds IPv4 addresses (RFC 6052): the last 32 bits are one.
const TRANSLATED: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether an address is one of the open Internet: not private, loopback, link-local, shared, multicast or reserved,
/// nor one that leads to such an address.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) if is_within_v6(v6, TRANSLATED) => {
            let [.., a, b, c, d] = v6.octets();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        IpAddr::V6(v6) => {
            let given_out = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
            let within = |ranges: &[_]| ranges.iter().any(|&range| is_within_v6(v6, range));
            is_within_v6(v6, given_out) && (!within(&SPECIAL_V6) || within(&REACHABLE_V6))
        }
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let within = |ranges: &[_]| ranges.iter().any(|&range| is_within_v4(v4, range));
    !within(&SPECIAL_V4) || within(&REACHABLE_V4)
}

fn is_within_v4(v4: Ipv4Addr, (first, length): (Ipv4Addr, u32)) -> bool {
    let differs = v4.to_bits() ^ first.to_bits();
    differs >> (u32::BITS - length) == 0
}

fn is_within_v6(v6: Ipv6Addr, (first, length): (Ipv6Addr, u32)) -> bool {
    let differs = v6.to_bits() ^ first.to_bits();
    differs >> (u128::BITS - length) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(grants: &[&str], uri: &str) -> bool {
        let grants: Vec<_> = grants.iter().map(|&s| s.to_owned()).collect();
        Policy::new(&grants)
            .check_request(&uri.parse().unwrap())
            .is_ok()
    }

    #[test]
    fn only_named_hosts_and_ports_are_reached() {
        assert!(!check(&[], "https://example.com/"));
        assert!(check(&["example.com"], "https://example.com/a"));
        assert!(!check(&["example.com:443"], "http://example.com/"));
        assert!(check(&["example.com:8080"], "http://EXAMPLE.com:8080/"));
        assert!(check(&["*.example.com"], "https://a.example.com/"));
        assert!(!check(&["*.example.com"], "https://badexample.com/"));
        assert!(!check(&["*.example.com"], "https://example.com/"));
        assert!(check(&["127.0.0.1:9000"], "http://127.0.0.1:9000/"));
        assert!(check(&["[::1]:9000"], "http://[::1]:9000/"));
        assert!(!check(&["127.0.0.1:9000"], "http://127.0.0.1:9001/"));
    }

    #[test]
    fn private_addresses_are_denied_after_dns_unless_named() {
        let policy = Policy::new(&["example.com".into(), "db.internal!private".into()]);
        for address in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "fe80::1",
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert!(!policy.allows_address("example.com", address), "{address}");
            assert!(policy.allows_address("db.internal", address), "{address}");
        }
        assert!(policy.allows_address("example.com", "93.184.216.34".parse().unwrap()));
        assert!(policy.allows_address("example.com", "2606:4700::1111".parse().unwrap()));
    }

    #[test]
    fn special_purpose_addresses_are_not_public_in_any_notation() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "100.127.255.255",
            "169.254.169.254",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            // Compatible with IPv4, as nobody writes it any more.
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            // NAT64 to private and link-local addresses, and that of one's own network.
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            // Teredo, benchmarks, ORCHID.
            "2001::1",
            "2001:0:7f00:1::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            // 6to4 of 127.0.0.1 and of 8.8.8.8.
            "2002:7f00:1::",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    /// Every row of both registries: what is within a prefix, and what is beside it. `true` is globally reachable.
    #[test]
    fn each_row_of_the_registries_is_kept() {
        for (rows, public) in [
            (
                &[
                    // IPv4, in the registry's order: first and last address.
                    ["0.0.0.0", "0.255.255.255"],
                    ["10.0.0.0", "10.255.255.255"],
                    ["100.64.0.0", "100.127.255.255"],
                    ["127.0.0.0", "127.255.255.255"],
                    ["169.254.0.0", "169.254.255.255"],
                    ["172.16.0.0", "172.31.255.255"],
                    ["192.0.0.0", "192.0.0.8"],
                    ["192.0.0.11", "192.0.0.255"],
                    ["192.0.2.0", "192.0.2.255"],
                    ["192.88.99.0", "192.88.99.255"],
                    ["192.168.0.0", "192.168.255.255"],
                    ["198.18.0.0", "198.19.255.255"],
                    ["198.51.100.0", "198.51.100.255"],
                    ["203.0.113.0", "203.0.113.255"],
                    ["224.0.0.0", "239.255.255.255"],
                    ["240.0.0.0", "255.255.255.254"],
                    ["255.255.255.255", "255.255.255.255"],
                    // IPv6.
                    ["::1", "::"],
                    ["::ffff:0.0.0.0", "::ffff:10.255.255.255"],
                    ["::ffff:192.168.0.1", "::ffff:255.255.255.255"],
                    ["64:ff9b::", "64:ff9b::127.0.0.1"],
                    ["64:ff9b::169.254.169.254", "64:ff9b::255.255.255.255"],
                    ["64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"],
                    ["100::", "100::ffff:ffff:ffff:ffff"],
                    ["100:0:0:1::", "100::1:ffff:ffff:ffff:ffff"],
                    ["2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["2001:1::", "2001:1::4"],
                    ["2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff"],
                    ["2001:4:111::", "2001:4:113::"],
                    ["2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["2001:40::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["2002:7f00:1::", "2002:808:808::1"],
                    ["3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                ][..],
                false,
            ),
            (
                &[
                    ["1.0.0.0", "9.255.255.255"],
                    ["11.0.0.0", "100.63.255.255"],
                    ["100.128.0.0", "126.255.255.255"],
                    ["128.0.0.0", "169.253.255.255"],
                    ["169.255.0.0", "172.15.255.255"],
                    ["172.32.0.0", "191.255.255.255"],
                    // PCP and TURN.
                    ["192.0.0.9", "192.0.0.10"],
                    ["192.0.1.0", "192.0.1.255"],
                    ["192.0.3.0", "192.31.195.255"],
                    // AS112, AMT, AS112 again.
                    ["192.31.196.0", "192.31.196.255"],
                    ["192.52.193.0", "192.52.193.255"],
                    ["192.175.48.0", "192.175.48.255"],
                    ["192.88.98.255", "192.88.100.0"],
                    ["192.167.255.255", "192.169.0.0"],
                    ["198.17.255.255", "198.20.0.0"],
                    ["198.51.99.255", "198.51.101.0"],
                    ["203.0.112.255", "203.0.114.0"],
                    ["223.255.255.255", "::ffff:8.8.8.8"],
                    ["64:ff9b::8.8.8.8", "64:ff9b::192.0.0.9"],
                    ["2001:1::1", "2001:1::2"],
                    ["2001:1::3", "2001:1::3"],
                    ["2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff"],
                    ["2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["2001:30::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["2001:db9::", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["2003::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                    ["2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"],
                    ["3fff:1000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                ],
                true,
            ),
        ] {
            for address in rows.iter().flatten() {
                assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
            }
        }
    }

    #[test]
    fn what_lies_beside_a_special_range_is_public() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "169.253.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.88.98.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            // What a network with IPv6 alone has of the rest.
            "64:ff9b::8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "3ffe::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
