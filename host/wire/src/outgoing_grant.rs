//! Hosts that an app may send requests to, as `grants.outgoing` writes them: `host`, `host:port`, `*.host`, or an address
//! with or without a port (IPv6 in brackets then), and `!private` after it. The grammar stands here alone.

use crate::names::{is_host, port};
use std::{net::IpAddr, str::FromStr};

/// Suffix of a name that may lead to private addresses.
const PRIVATE_SUFFIX: &str = "!private";

/// One entry of `grants.outgoing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingGrant {
    host: GrantedHost,
    /// Port that is granted; any where absent.
    port: Option<u16>,
    allows_private: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum GrantedHost {
    Address(IpAddr),
    /// A host name in lower case.
    Name(String),
    /// Every name below this one, in lower case.
    Below(String),
}

/// A text that names no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write `host`, `host:port`, `*.host` or an address, and `!private` after a name that may lead to private addresses"
)]
pub struct NoOutgoingGrant;

impl FromStr for OutgoingGrant {
    type Err = NoOutgoingGrant;

    fn from_str(text: &str) -> Result<Self, NoOutgoingGrant> {
        let (text, is_private) = match text.strip_suffix(PRIVATE_SUFFIX) {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (host, port) = split(text).ok_or(NoOutgoingGrant)?;
        // An address that is written out is named, whatever kind it is.
        let allows_private = is_private || matches!(host, GrantedHost::Address(_));
        Ok(Self {
            host,
            port,
            allows_private,
        })
    }
}

fn split(text: &str) -> Option<(GrantedHost, Option<u16>)> {
    if let Ok(address) = text.parse() {
        return Some((GrantedHost::Address(address), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, text)) if !text.ends_with(']') => (host, Some(port(text)?)),
        _ => (text, None),
    };
    is_host(host).then(|| (GrantedHost::parse(host), port))
}

impl GrantedHost {
    /// Parses a text that has the shape of a host.
    fn parse(host: &str) -> Self {
        if let Some(address) = address(host) {
            return Self::Address(address);
        }
        let host = host.to_ascii_lowercase();
        match host.strip_prefix("*.") {
            Some(name) => Self::Below(name.to_owned()),
            None => Self::Name(host),
        }
    }
}

/// Parses a host as an address, with or without brackets.
fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

impl OutgoingGrant {
    /// Whether the grant covers requests to `host`, as a URI has it.
    pub fn has_host(&self, host: &str) -> bool {
        match &self.host {
            GrantedHost::Address(own) => address(host) == Some(*own),
            GrantedHost::Name(name) => host.eq_ignore_ascii_case(name),
            GrantedHost::Below(name) => {
                let host = host.to_ascii_lowercase();
                let rest = host.strip_suffix(name.as_str());
                rest.is_some_and(|rest| rest.ends_with('.'))
            }
        }
    }

    /// Whether the grant covers requests to `port`.
    pub fn has_port(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    /// Whether the host may lead to private and loopback addresses.
    pub fn allows_private(&self) -> bool {
        self.allows_private
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_match_is_an_outgoing_grant() {
        for good in [
            "example.com",
            "example.com:8080",
            "*.example.com",
            "db.internal!private",
            "127.0.0.1:9000",
            "10.0.0.1",
            "::1",
            "[::1]:9000",
        ] {
            assert!(good.parse::<OutgoingGrant>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "https://example.com",
            "example.com/path",
            "example.com:http",
            "example.com:0",
            "example.com:+80",
            "example.com:70000",
            "a.*.com",
            "*",
            "exa mple",
            "a..b",
            "[::1",
            "!private",
        ] {
            assert_eq!(bad.parse::<OutgoingGrant>(), Err(NoOutgoingGrant), "{bad}");
        }
    }

    #[test]
    fn a_grant_names_a_host_however_it_is_written() {
        for (grant, host, port, is_meant) in [
            ("Example.com", "EXAMPLE.com", 80, true),
            ("example.com:443", "example.com", 80, false),
            ("*.example.com", "A.example.com", 80, true),
            ("*.example.com", "example.com", 80, false),
            ("*.example.com", "badexample.com", 80, false),
            ("::1", "[::1]", 80, true),
            ("[0:0::1]:9000", "[::1]", 9000, true),
            ("127.0.0.1", "127.0.0.2", 80, false),
        ] {
            let parsed: OutgoingGrant = grant.parse().expect("a grant");
            let found = parsed.has_host(host) && parsed.has_port(port);
            assert_eq!(found, is_meant, "{grant} {host}:{port}");
        }
        let private = |grant: &str| grant.parse::<OutgoingGrant>().unwrap().allows_private();
        assert!(private("db.internal!private") && private("10.0.0.1") && private("[::1]:80"));
        assert!(!private("example.com") && !private("*.example.com:80"));
    }
}
