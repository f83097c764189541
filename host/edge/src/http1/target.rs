//! The target of a request: the authority and the path, checked byte by byte. HTTP/2 uses the same rules.

use super::head::{Refusal, bad};
use std::borrow::Cow;

/// Path and authority of a request line's target. `Host` counts where the target names none; an absolute target
/// outranks it (RFC 9112, section 3.2.2).
pub(super) fn split<'a>(
    method: &str,
    target: &'a str,
    host: Option<&'a str>,
) -> Result<(Cow<'a, str>, &'a str), Refusal> {
    if method == "CONNECT" {
        // A place to go to, and no path.
        let port = target
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        return if is_authority(target) && port.is_some() {
            Ok((Cow::Borrowed("/"), target))
        } else {
            Err(bad("CONNECT names host:port"))
        };
    }
    let (path, authority) = if is_star(method, target) || target.starts_with('/') {
        (Cow::Borrowed(target), host.unwrap_or_default())
    } else {
        let rest = without_scheme(target).ok_or(bad("the target is neither a path nor a URI"))?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !is_authority(authority) {
            return Err(bad("the target's authority is malformed"));
        }
        // An empty path is `/` (RFC 9110, section 4.2.3).
        let path = match path.starts_with('/') {
            true => Cow::Borrowed(path),
            false => Cow::Owned(format!("/{path}")),
        };
        (path, authority)
    };
    if is_star(method, &path) || is_path(&path) {
        Ok((path, authority))
    } else {
        Err(bad("the target has a character that must be escaped"))
    }
}

/// `*` is the server as a whole, and only OPTIONS asks for it.
pub(crate) fn is_star(method: &str, target: &str) -> bool {
    target == "*" && method == "OPTIONS"
}

fn without_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// A path with its query: visible ASCII. What browsers send unescaped is let through, as the URL standard has it;
/// what would mean something else to the next reader (`\` as `/`, a fragment) is not.
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

/// A host, and a port behind a colon. No user, no escapes, no empty host or label: servers that take off the dot of the
/// root take off one, or all.
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

/// Whether it has nothing but what names have, and no label of it is empty, besides that of the root at its end (RFC 1034,
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

/// Nothing, or a colon and a port, which may be empty (RFC 3986, section 3.2.3).
fn is_port(rest: &str) -> bool {
    match rest.strip_prefix(':') {
        Some("") => true,
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
        None => rest.is_empty(),
    }
}
