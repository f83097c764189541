//! Header lines as they stand on the wire: what a relay passes on is copied once, and never turned into a map.

use crate::TextBuffer;

/// Header lines: `name: value` with CRLF behind each. Whoever pushes has checked names and values: no control
/// characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderLines(TextBuffer);

impl HeaderLines {
    /// Adds a line.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        if self.0.capacity() == 0 {
            self.0 = TextBuffer::new();
        }
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    /// Adds a line, its name in lower case.
    pub fn push_lower_case(&mut self, name: &str, value: &[u8]) {
        let at = self.0.len();
        self.push(name.as_bytes(), value);
        self.0[at..at + name.len()].make_ascii_lowercase();
    }

    /// All lines as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of lines.
    pub fn count(&self) -> usize {
        self.0.iter().filter(|&&byte| byte == b'\n').count()
    }

    /// Names and values of the lines, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        fields(&self.0)
    }
}

/// Names and values of lines that [`HeaderLines`] wrote.
pub fn fields(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.strip_suffix(b"\r"))
        .filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((&line[..colon], line.get(colon + 2..)?))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_comes_back() {
        let mut lines = HeaderLines::default();
        lines.push(b"a", b"1: 2");
        lines.push(b"b", b"");
        assert_eq!(lines.as_bytes(), b"a: 1: 2\r\nb: \r\n");
        assert_eq!(lines.count(), 2);
        let all: Vec<_> = lines.iter().collect();
        assert_eq!(all, [(&b"a"[..], &b"1: 2"[..]), (b"b", b"")]);
    }
}
