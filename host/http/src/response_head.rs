//! Largest head of a response that goes on to a client: one measure for servers and handlers, so that what a node
//! answers, the node before it passes on.

use crate::Reply;

/// Most header lines of a response, whoever makes it: a server of either protocol, an app or an edge handler. Lines
/// that concern its connection do not count. A page with its cookies and preloads has some dozen; nginx relays 200 as
/// well.
pub const RESPONSE_HEADERS_MAX: usize = 256;
/// Most bytes of a response's header lines, as HTTP/1.1 writes them: many cookies are set at once where somebody logs
/// in, each of 4 KiB at most.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 128 << 10;
/// Checks the head of a response that goes on to a client against [`RESPONSE_HEADERS_MAX`] and
/// [`RESPONSE_HEAD_BYTES_MAX`].
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

/// Error of a head with more lines or bytes than its limit allows.
pub const RESPONSE_TOO_MANY_LINES: &str = "its head has too many lines (RESPONSE_HEADERS_MAX)";
/// Error of a head with more lines or bytes than its limit allows.
pub const RESPONSE_TOO_LARGE: &str = "its head is too large (RESPONSE_HEAD_BYTES_MAX)";
