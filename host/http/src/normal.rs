//! Paths and hosts in the one form that is matched, shown to handlers and passed on.
//!
//! A path is in normal form (RFC 3986, sections 6.2.2 and 5.2.4) when no escape stands for a character that needs none,
//! hexadecimal digits of escapes are upper-case, no segment is `.` or `..`, and, beyond that standard, no `/` follows
//! another: most servers take several for one. What is left in it that servers read in two ways is another matter: see
//! [`lenient`].

use crate::Scheme;
use std::{borrow::Cow, net::Ipv6Addr};

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// `%00`: no name has it, and what reads C strings ends there.
    Nul,
}

/// Brings path and query into normal form; the query stays as it is. A path that is in normal form costs one look at
/// its bytes.
///
/// # Errors
/// The path has no normal form.
pub fn path(target: &str) -> Result<Cow<'_, str>, PathFault> {
    let end = target.find('?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    if !path.starts_with('/') || is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(target));
    }
    let mut made = without_dots(&unescaped(path)?);
    if made == path {
        return Ok(Cow::Borrowed(target));
    }
    made.push_str(query);
    Ok(Cow::Owned(made))
}

/// Whether a path has nothing that may have to be changed.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let fine = byte != b'%' && !(before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        fine
    })
}

/// Takes out escapes of unreserved characters, and makes the digits of the others upper-case.
fn unescaped(path: &str) -> Result<String, PathFault> {
    let mut made = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        made.push_str(&rest[..at]);
        rest = &rest[at..];
        match escape(rest.as_bytes()) {
            Some(0) => return Err(PathFault::Nul),
            Some(byte) => {
                if is_unreserved(byte) {
                    made.push(byte.into());
                } else {
                    made.push_str(&rest[..3].to_ascii_uppercase());
                }
                rest = &rest[3..];
            }
            // Browsers leave a `%` by itself. It must not become one with what comes of the escapes behind it.
            None => {
                made.push_str("%25");
                rest = &rest[1..];
            }
        }
    }
    made.push_str(rest);
    Ok(made)
}

/// Reads an escape at the beginning of a text: the byte that it stands for.
fn escape(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match text {
        [b'%', high, low, ..] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Takes out segments that are `.`, `..` or empty. Above the root there is nothing.
fn without_dots(path: &str) -> String {
    let mut made = String::with_capacity(path.len());
    let mut ends_in_slash = true;
    for segment in path.split('/').skip(1) {
        ends_in_slash = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => made.truncate(made.rfind('/').unwrap_or(0)),
            segment => {
                made.push('/');
                made.push_str(segment);
            }
        }
    }
    if ends_in_slash {
        made.push('/');
    }
    made
}

/// Reads a path in normal form as the most lenient server does; `None` where that makes no difference. Escaped
/// separators and `\` are separators, parameters (`;v=1`) are no part of a segment, and what becomes of dots then
/// counts. A server that does read it so must not be asked for what another route guards.
pub fn lenient(path: &str) -> Option<String> {
    if !path.bytes().any(|byte| matches!(byte, b'%' | b';')) {
        return None;
    }
    let read = path.replace("%2F", "/").replace("%5C", "/");
    let segments = read.split('/');
    let bare = segments.map(|segment| segment.split(';').next().unwrap_or_default());
    let bare = without_dots(&bare.collect::<Vec<_>>().join("/"));
    (bare != path).then_some(bare)
}

/// Name that a path's escapes stand for, read once. `None` where that is no text, or where an escape stands for a
/// separator: whoever looked at the path saw none there.
pub fn unescape(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let [first, after @ ..] = rest {
        match escape(rest) {
            Some(b'/' | b'\\' | 0) => return None,
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Brings host and port into normal form: lower case, without the dot of the root behind the name, without the scheme's
/// own port or an empty one, the port without zeros before it, an IPv6 address as RFC 5952 writes it.
///
/// The form is a fixed point: each hop normalises, and must match the name that the hop before it matched. What is no
/// authority, which connections refuse, stays as it is, but for dots at its end.
pub fn authority(authority: &str, scheme: Scheme) -> Cow<'_, str> {
    if is_plain_authority(authority.as_bytes(), scheme) {
        return Cow::Borrowed(authority);
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (authority, ""),
    };
    let own = match scheme {
        Scheme::Http => "80",
        Scheme::Https => "443",
    };
    let port = port.strip_prefix('0').map_or(port, |rest| {
        let bare = rest.trim_start_matches('0');
        if bare.is_empty() { "0" } else { bare }
    });
    let port = if port == own { "" } else { port };
    if host.contains([':', '[', ']']) {
        let made = literal(host).map(|address| with_port(&format!("[{address}]"), port));
        return match made {
            Some(made) if made != authority => Cow::Owned(made),
            _ => Cow::Borrowed(authority),
        };
    }
    let name = Some(host.trim_end_matches('.')).filter(|name| !name.is_empty());
    let name = name.unwrap_or(host);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(with_port(&name.to_ascii_lowercase(), port));
    }
    match port {
        "" => Cow::Borrowed(name),
        // Nothing was taken out.
        port if name.len() + 1 + port.len() == authority.len() => Cow::Borrowed(authority),
        port => Cow::Owned(with_port(name, port)),
    }
}

/// Whether an authority is plain, as most are: a name in lower case without a dot at its end, alone or with a port that
/// is not the scheme's own.
fn is_plain_authority(authority: &[u8], scheme: Scheme) -> bool {
    let is_of_name = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
    let host = authority.iter().take_while(|byte| is_of_name(byte)).count();
    let port = match &authority[host..] {
        [] => None,
        [b':', port @ ..] => Some(port),
        _ => return false,
    };
    let own: &[u8] = match scheme {
        Scheme::Http => b"80",
        Scheme::Https => b"443",
    };
    host > 0
        && authority[host - 1] != b'.'
        && port.is_none_or(|port| {
            port != own
                && matches!(port, [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit))
        })
}

fn with_port(host: &str, port: &str) -> String {
    match port {
        "" => host.to_owned(),
        port => format!("{host}:{port}"),
    }
}

fn literal(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_normal_form() {
        for (said, normal) in [
            ("/", "/"),
            ("/a/b.c?q=//../%2e", "/a/b.c?q=//../%2e"),
            ("/x/../admin", "/admin"),
            ("//admin", "/admin"),
            ("/%61dmin/%7Euser", "/admin/~user"),
            ("/x/%2e%2E/admin?a=%61", "/admin?a=%61"),
            ("/../../etc", "/etc"),
            ("/a/./b/.", "/a/b/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a//b///", "/a/b/"),
            ("/a/.hidden/..x", "/a/.hidden/..x"),
            ("/a%2fb%c3%bc", "/a%2Fb%C3%BC"),
            ("/a%252e%252e", "/a%252e%252e"),
            ("/100%", "/100%25"),
            ("/%zz%4", "/%25zz%254"),
            ("/%%36%31dmin", "/%2561dmin"),
            ("*", "*"),
        ] {
            assert_eq!(path(said).as_deref(), Ok(normal), "{said}");
            assert_eq!(path(normal).as_deref(), Ok(normal), "{normal} stays");
        }
        for said in ["/a%00", "/%00/../a"] {
            assert_eq!(path(said), Err(PathFault::Nul), "{said}");
        }
    }

    #[test]
    fn a_path_in_normal_form_is_not_copied() {
        for said in ["/", "/a/b.c", "/a?b=%61", "/a%2Fb", "/.well-known/x"] {
            assert!(matches!(path(said), Ok(Cow::Borrowed(_))), "{said}");
        }
    }

    #[test]
    fn what_a_lenient_server_reads_otherwise_is_told() {
        for (path, read) in [
            ("/a/b", None),
            ("/a%20b", None),
            ("/admin%2Fx", Some("/admin/x")),
            ("/x%5C..%5Cadmin", Some("/admin")),
            ("/x/..;/admin", Some("/admin")),
            ("/admin;v=1/x", Some("/admin/x")),
            ("/x%2F%2Fy", Some("/x/y")),
        ] {
            assert_eq!(lenient(path).as_deref(), read, "{path}");
        }
    }

    #[test]
    fn escapes_are_read_once() {
        for (path, text) in [
            ("/a", Some("/a")),
            ("/annual%20report.txt", Some("/annual report.txt")),
            ("/f%C3%BCr", Some("/für")),
            ("/a%2520", Some("/a%20")),
            ("/100%", Some("/100%")),
            ("/%FF", None),
            ("/private%2Fx", None),
            ("/x%00.txt", None),
        ] {
            assert_eq!(unescape(path).as_deref(), text, "{path}");
        }
    }

    #[test]
    fn an_authority_has_one_normal_form() {
        for (said, scheme, normal) in [
            ("example.test", Scheme::Http, "example.test"),
            ("Example.TEST.", Scheme::Http, "example.test"),
            ("example.test.:8080", Scheme::Http, "example.test:8080"),
            ("example.test:80", Scheme::Http, "example.test"),
            ("example.test:80", Scheme::Https, "example.test:80"),
            ("example.test:443", Scheme::Https, "example.test"),
            ("example.test:", Scheme::Http, "example.test"),
            (
                "XN--MNCHEN-3YA.example",
                Scheme::Http,
                "xn--mnchen-3ya.example",
            ),
            ("[::1]", Scheme::Http, "[::1]"),
            ("[2001:DB8:0::1]:80", Scheme::Http, "[2001:db8::1]"),
            ("[::1]:8080", Scheme::Http, "[::1]:8080"),
            ("192.0.2.1:80", Scheme::Http, "192.0.2.1"),
            ("example.test..", Scheme::Http, "example.test"),
            ("example.test:08080", Scheme::Http, "example.test:8080"),
            ("example.test.:0080", Scheme::Http, "example.test"),
            ("example.test:000", Scheme::Http, "example.test:0"),
            (".", Scheme::Http, "."),
            ("", Scheme::Http, ""),
        ] {
            assert_eq!(authority(said, scheme), normal, "{said}");
            assert_eq!(authority(normal, scheme), normal, "{normal} stays");
        }
    }

    /// All texts of so many pieces, one after another.
    fn texts(pieces: &[&str], count: usize) -> impl Iterator<Item = String> {
        let all = pieces.len().pow(u32::try_from(count).expect("it is small"));
        (0..all).map(move |mut number| {
            let mut text = String::new();
            for _ in 0..count {
                text.push_str(pieces[number % pieces.len()]);
                number /= pieces.len();
            }
            text
        })
    }

    #[test]
    fn the_normal_form_of_an_authority_is_a_fixed_point() {
        let pieces = [
            "",
            "a",
            "B.",
            ".",
            "..",
            ":",
            ":80",
            ":080",
            ":443",
            "0",
            "[",
            "]",
            "[::1]",
            "[2001:DB8:0::1]",
            "[::1]:80",
            "*",
            "%",
            "é",
            "@",
            " ",
            "/",
            "127.0.0.1",
        ];
        for said in texts(&pieces, 4) {
            for scheme in [Scheme::Http, Scheme::Https] {
                let once = authority(&said, scheme);
                assert_eq!(authority(&once, scheme), once, "{said}");
            }
        }
    }

    #[test]
    fn the_normal_form_of_a_path_is_a_fixed_point() {
        let pieces = [
            "", "/", ".", "..", "%", "%2", "%2e", "%2F", "%5c", "%61", "%25", "61", "e", "a", ";",
            "\\", "?", "#", "%C3%bc", "é", "*", "%zz",
        ];
        for said in texts(&pieces, 4) {
            for said in [format!("/{said}"), said] {
                let Ok(once) = path(&said) else { continue };
                assert_eq!(path(&once).as_deref(), Ok(&*once), "{said}");
            }
        }
    }
}
