//! `Forwarded` (RFC 7239), read from its right end: what a trusted forwarder wrote stands there, and whatever a client
//! wrote to its left, half a quoted string for example, hides nothing of it.

use crate::Scheme;
use std::{borrow::Cow, net::IpAddr};

/// One forwarder's element of `Forwarded` (RFC 7239, section 4).
#[derive(Clone, Copy, Debug)]
pub struct Element<'a>(&'a str);

/// Splits a line into its elements, the last first.
pub fn elements(line: &str) -> impl Iterator<Item = Element<'_>> {
    rsplit(line, b',').map(Element)
}

impl<'a> Element<'a> {
    /// Address that the request came from; `None` where it is hidden (`unknown`, `_name`).
    pub fn node(self) -> Option<IpAddr> {
        address(&self.value("for")?)
    }

    /// Scheme that the request came by.
    pub fn scheme(self) -> Option<Scheme> {
        scheme(&self.value("proto")?)
    }

    /// Host that was asked for.
    pub fn host(self) -> Option<Cow<'a, str>> {
        self.value("host").filter(|host| !host.is_empty())
    }

    fn value(self, name: &str) -> Option<Cow<'a, str>> {
        let mut pairs = rsplit(self.0, b';').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(found, _)| found.trim().eq_ignore_ascii_case(name))?;
        let value = value.trim();
        let quoted = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'));
        Some(match quoted {
            Some(quoted) if quoted.contains('\\') => unescaped(quoted).into(),
            Some(quoted) => quoted.into(),
            None => value.into(),
        })
    }
}

/// Reads an address, with a port or without: balancers write both.
pub fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    bare.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

/// Reads a scheme. Some forwarders (Traefik) write the one of a WebSocket.
pub fn scheme(name: &str) -> Option<Scheme> {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    if is("https") || is("wss") {
        return Some(Scheme::Https);
    }
    (is("http") || is("ws")).then_some(Scheme::Http)
}

fn unescaped(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        let escaped = match character {
            '\\' => characters.next(),
            _ => None,
        };
        text.push(escaped.unwrap_or(character));
    }
    text
}

/// Splits text at separators that stand in no quoted string, the last part first.
fn rsplit(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = last_unquoted(text.as_bytes(), separator);
        rest = at.map(|at| &text[..at]);
        Some(at.map_or(text, |at| &text[at + 1..]))
    })
}

fn last_unquoted(text: &[u8], separator: u8) -> Option<usize> {
    let mut is_quoted = false;
    for (at, &byte) in text.iter().enumerate().rev() {
        if byte == b'"' {
            let before = text[..at].iter().rev();
            let is_escaped = before.take_while(|&&byte| byte == b'\\').count() % 2 == 1;
            is_quoted ^= !is_escaped;
        } else if byte == separator && !is_quoted {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_from_the_right_and_quotes_are_taken_off() {
        let line = r#"for=a;host="b\"c,d;e";proto=https , for="[2001:db8::1]:1""#;
        let [last, first] = elements(line).collect::<Vec<_>>()[..] else {
            panic!("two elements");
        };
        assert_eq!(last.node(), "2001:db8::1".parse().ok());
        assert_eq!((last.scheme(), last.host()), (None, None));
        assert_eq!(first.node(), None);
        assert_eq!(first.host().as_deref(), Some(r#"b"c,d;e"#));
        assert_eq!(first.scheme(), Some(Scheme::Https));
    }

    #[test]
    fn a_long_line_of_quotes_and_backslashes_is_read_in_one_pass() {
        // The longest header line, of the pieces that cost most.
        for piece in ["\\", "\"", "\\\"", ",", ";"] {
            let line = piece.repeat(32 << 10);
            assert!(elements(&line).filter_map(Element::node).next().is_none());
        }
    }
}
