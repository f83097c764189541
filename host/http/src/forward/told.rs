//! Header lines that tell of the client. A node of the fleet vouches for them when it passes a request on: the sender
//! finds them in the text that it writes, the receiver in the lines that it has read, both in one order.

use crate::{HeaderField, field::told_of_client};
use memchr::memchr;

/// One header line that tells of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientField<'a> {
    /// Number of the header's name.
    pub header: u8,
    /// Value of the header, without spaces around it.
    pub value: &'a [u8],
}

/// Finds the lines that tell of the client, in a head that was read.
pub fn told<'a>(fields: &[HeaderField<'a>]) -> impl Iterator<Item = ClientField<'a>> {
    fields.iter().filter_map(|field| {
        let header = told_of_client(field.name)?;
        let value = field.value.trim_ascii();
        Some(ClientField { header, value })
    })
}

/// Finds the lines that tell of the client, in a head as it is written: a request line, then header lines, each of
/// which ends with CR LF.
pub fn told_in(head: &[u8]) -> impl Iterator<Item = ClientField<'_>> {
    let mut rest = head;
    let lines = std::iter::from_fn(move || {
        let (line, after) = rest.split_at_checked(memchr(b'\n', rest)? + 1)?;
        rest = after;
        Some(line)
    });
    lines.skip(1).filter_map(|line| {
        let (name, value) = line.split_at_checked(memchr(b':', line)?)?;
        let header = told_of_client(std::str::from_utf8(name).ok()?)?;
        let value = value[1..].trim_ascii();
        Some(ClientField { header, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_hop_find_the_same_lines() {
        let lines: [(&str, &[u8]); 8] = [
            ("host", b"a"),
            ("X-Forwarded-For", b"192.0.2.1, 10.0.0.1"),
            ("x-forwarded-for", b"192.0.2.2"),
            ("x_forwarded_for", b"6.6.6.6"),
            ("cookie", b"forwarded: for=6.6.6.6"),
            ("forwarded", b" for=192.0.2.1;host=\"a:80\" "),
            ("x-request-id", b"0123456789abcdef"),
            ("X-FORWARDED-PROTO", b""),
        ];
        let mut text = b"GET /x-forwarded-for:1 HTTP/1.1\r\n".to_vec();
        for (name, value) in lines {
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value);
            text.extend_from_slice(b"\r\n");
        }
        let fields = lines.map(|(name, value)| HeaderField { name, value });
        let read: Vec<_> = told(&fields).collect();
        assert_eq!(read, told_in(&text).collect::<Vec<_>>());
        let values: Vec<_> = read.iter().map(|told| told.value).collect();
        let [_, first, second, .., forwarded, id, proto] =
            lines.map(|(_, value)| value.trim_ascii());
        assert_eq!(values, [first, second, forwarded, id, proto]);
        let headers: Vec<_> = read.iter().map(|told| told.header).collect();
        assert_eq!(headers, [1, 1, 0, 4, 3]);
        assert_eq!(told_of_client("x-forwarded-host"), Some(2));
    }
}
