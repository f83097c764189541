//! Limits of connections. Each has a default and a reason.

use std::time::Duration;

/// What a client may take of a child.
#[derive(Clone, Debug)]
pub struct Limits {
    /// TLS handshake: a slow phone on a bad network needs seconds, an attacker would take for ever.
    pub handshake_timeout: Duration,
    /// From accept to the first byte.
    pub first_byte_timeout: Duration,
    /// From a head's first byte to its last.
    pub head_timeout: Duration,
    /// Between requests; above the 60 s of common load balancers, which must be the ones to close.
    pub idle_timeout: Duration,
    /// Between two reads of a request's body that somebody waits for.
    pub body_timeout: Duration,
    /// Until a blocked write gets on.
    pub write_timeout: Duration,
    /// Without a byte in a tunnel; the pings of WebSockets come more often.
    pub tunnel_idle_timeout: Duration,
    /// A whole head: cookies are large, attacks larger (431).
    pub head_bytes_max: usize,
    /// A request line (414).
    pub line_bytes_max: usize,
    /// Header lines (431). At most 128.
    pub headers_max: usize,
    /// What is read of a body that nobody wanted, to keep the connection.
    pub drain_bytes_max: u64,
    /// Connections of one child; the accept loop waits above it.
    pub connections_max: usize,
    /// Streams at once on an HTTP/2 connection.
    pub h2_streams_max: u32,
    /// Header list of an HTTP/2 request.
    pub h2_header_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(30),
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            tunnel_idle_timeout: Duration::from_secs(3_600),
            head_bytes_max: 32 << 10,
            line_bytes_max: 8 << 10,
            headers_max: 100,
            drain_bytes_max: 256 << 10,
            connections_max: 16_384,
            h2_streams_max: 100,
            h2_header_bytes_max: 32 << 10,
        }
    }
}
