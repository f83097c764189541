//! The target of a request, checked byte by byte: its authority and its path.

/// Whether a target is `*`: the server as a whole, which only OPTIONS asks for.
pub fn is_star(method: &str, target: &str) -> bool {
    target == "*" && method == "OPTIONS"
}

/// Whether a target is a path with its query: visible ASCII. What browsers send unescaped is let through, as the URL
/// standard has it; what would mean something else to the next reader (`\` as `/`, a fragment) is not.
#[inline]
pub fn is_path(target: &str) -> bool {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let visible =
        |byte: u8| (0x21..0x7f).contains(&byte) && !matches!(byte, b'#' | b'"' | b'<' | b'>');
    path.starts_with('/')
        && path
            .bytes()
            .all(|byte| visible(byte) && !matches!(byte, b'\\' | b'`'))
        && query.bytes().all(visible)
}

/// Whether a text is a host, with or without a port behind a colon. No user, no escapes, no empty host or label:
/// servers that take off the dot of the root take off one, or all.
#[inline]
pub fn is_authority(value: &str) -> bool {
    let (host, rest) = match value.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", rest),
            _ => return false,
        },
        None => value.split_at(value.find(':').unwrap_or(value.len())),
    };
    is_name(host.as_bytes()) && is_port(rest)
}

/// Whether a host has nothing but what names have, and no empty label besides that of the root at its end (RFC 1034,
/// section 3.1).
fn is_name(host: &[u8]) -> bool {
    let mut before = b'.';
    host.iter().all(|&byte| {
        let before = std::mem::replace(&mut before, byte);
        match byte {
            b'.' => before != b'.',
            byte => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~'),
        }
    }) && !host.is_empty()
}

/// Whether a text is nothing, or a colon and a port, which may be empty (RFC 3986, section 3.2.3).
fn is_port(rest: &str) -> bool {
    match rest.strip_prefix(':') {
        Some("") => true,
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
        None => rest.is_empty(),
    }
}
