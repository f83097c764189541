//! The largest head of a response that goes on to a client: one measure for servers and handlers, so that what a node
//! answers, the node before it passes on.

use crate::Reply;

/// Header lines of a response, whoever makes it: a server of either protocol, an app or an edge handler. Lines that
/// concern its connection do not count. A page with its cookies and preloads has some dozen; nginx relays 200 as well.
pub const RESPONSE_HEADERS_MAX: usize = 256;
/// Bytes of those lines as HTTP/1.1 writes them: many cookies are set at once where somebody logs in, each of 4 KiB at
/// most.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 128 << 10;
/// Whether the head of a response that goes on to a client is within [`RESPONSE_HEADERS_MAX`] and
/// [`RESPONSE_HEAD_BYTES_MAX`]. One measure for servers and handlers: what a node answers, the node before it passes on.
///
/// # Errors
/// The head has more lines or bytes than that; the text names the limit.
pub fn check_response_head(reply: &Reply) -> Result<(), &'static str> {
    let lengths = |name: usize, value: usize| name + ": ".len() + value + "\r\n".len();
    let headers = reply.headers.iter();
    let bytes: usize = headers
        .map(|(name, value)| lengths(name.as_str().len(), value.len()))
        .sum();
    if reply.headers.len() + reply.lines.count() > RESPONSE_HEADERS_MAX {
        return Err(RESPONSE_TOO_MANY_LINES);
    }
    if bytes + reply.lines.as_bytes().len() > RESPONSE_HEAD_BYTES_MAX {
        return Err(RESPONSE_TOO_LARGE);
    }
    Ok(())
}

/// Said of a head with more than [`RESPONSE_HEADERS_MAX`] lines.
pub const RESPONSE_TOO_MANY_LINES: &str = "its head has too many lines (RESPONSE_HEADERS_MAX)";
/// Said of a head with more than [`RESPONSE_HEAD_BYTES_MAX`] bytes.
pub const RESPONSE_TOO_LARGE: &str = "its head is too large (RESPONSE_HEAD_BYTES_MAX)";
