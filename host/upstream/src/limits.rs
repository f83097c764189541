//! Limits on the heads of responses that are read from servers.

use protoplex_http::{RESPONSE_HEAD_BYTES_MAX, RESPONSE_HEADERS_MAX};
use protoplex_http2::FIELD_BYTES;

/// Most lines that a server adds to a response for its connection: framing, date and the like.
const RESPONSE_OWN_HEADERS_MAX: usize = 16;
/// Most bytes of the status line, which may give a reason, and of the lines that concern the connection.
const RESPONSE_OWN_BYTES_MAX: usize = 8 << 10;
/// Most lines of a response's head that are read, those of its connection included.
pub(super) const RESPONSE_LINES_READ: usize = RESPONSE_HEADERS_MAX + RESPONSE_OWN_HEADERS_MAX;
/// Most bytes of a response's head that are read.
pub(super) const RESPONSE_BYTES_READ: usize = RESPONSE_HEAD_BYTES_MAX + RESPONSE_OWN_BYTES_MAX;
/// Largest header list of a response by HTTP/2 that is read.
pub(super) const RESPONSE_H2_LIST_BYTES: usize =
    RESPONSE_BYTES_READ + FIELD_BYTES * RESPONSE_LINES_READ;
