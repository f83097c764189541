//! Shapes of names and addresses that several parts of a manifest share.

use std::net::IpAddr;

/// Bytes of a name in a manifest.
const NAME_BYTES_MAX: usize = 64;

/// Whether a text names a handler or a namespace: 1 to 64 of a-z, 0-9, `-`, `_`, and a letter first.
pub(crate) fn is_name(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    name.len() <= NAME_BYTES_MAX
        && name.bytes().all(ok)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Whether a text is a host: a name, `*.` and a name, or an address, which of IPv6 is in brackets.
pub(crate) fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return address.parse::<IpAddr>().is_ok();
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !name.is_empty()
        && name
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(ok))
}

/// Parses a text as a port: digits, and not 0.
pub(crate) fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    let port = is_number.then(|| text.parse().ok()).flatten();
    port.filter(|port| *port > 0)
}

/// Whether a text is `host:port` of one server; IPv6 in brackets.
pub(crate) fn is_address(address: &str) -> bool {
    let Some((host, text)) = address.rsplit_once(':') else {
        return false;
    };
    is_host(host) && !host.starts_with('*') && port(text).is_some()
}
