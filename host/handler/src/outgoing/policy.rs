//! The allow-list of a handler's outgoing requests.

use http::Uri;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wasmtime_wasi_http::Error;

/// Deny by default.
#[derive(Debug)]
pub(crate) struct Policy(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    host: String,
    port: Option<u16>,
    /// The name may lead to private addresses (written `name!private`).
    private: bool,
}

impl Policy {
    /// From `grants.outgoing`.
    pub(crate) fn new(grants: &[String]) -> Self {
        Self(grants.iter().map(|text| Entry::parse(text)).collect())
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
        let entry = self
            .0
            .iter()
            .find(|entry| entry.names(host) && entry.port.is_none_or(|p| p == port));
        entry.map(drop).ok_or(Error::HttpRequestDenied)
    }

    /// Whether a name may lead to this address.
    pub(crate) fn allows_address(&self, name: &str, address: IpAddr) -> bool {
        is_public(address)
            || self
                .0
                .iter()
                .any(|entry| entry.private && entry.names(name))
    }
}

impl Entry {
    fn parse(text: &str) -> Self {
        let (text, private) = match text.strip_suffix("!private") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                match port.parse() {
                    Ok(port) => (host, Some(port)),
                    Err(_) => (text, None),
                }
            }
            _ => (text, None),
        };
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        // An address that is written out is named, whatever kind it is.
        let private = private || host.parse::<IpAddr>().is_ok();
        Self {
            host,
            port,
            private,
        }
    }

    fn names(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        match self.host.strip_prefix("*.") {
            Some(suffix) => host
                .strip_suffix(suffix)
                .is_some_and(|rest| rest.ends_with('.')),
            None => self.host == host,
        }
    }
}

/// Whether an address is one of the open Internet: not private, loopback, link-local (which cloud metadata
/// services use), shared, multicast or reserved.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_public_v4(v4),
            None => is_public_v6(v6),
        },
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let benchmark = a == 198 && (b == 18 || b == 19);
    !(v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_documentation()
        || a == 0
        || a >= 240
        || shared
        || protocol
        || benchmark)
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let first = v6.segments()[0];
    let translated = v6.segments()[..2] == [0x64, 0xff9b];
    // 2000::/3 is all that is given out; 2001:db8::/32 is documentation, 2002::/16 wraps IPv4.
    (first & 0xe000) == 0x2000
        && !(first == 0x2001 && v6.segments()[1] == 0x0db8)
        && first != 0x2002
        && !translated
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
}
