//! Limits on requests and responses. Each has a default and a reason.

use protoplex_http2::{FIELD_BYTES, WindowSizes};
use protoplex_net::{self as net, PaceRule};
use std::time::Duration;

/// Largest [`HttpLimits::head_bytes_max`]: a node knows by it what to expect of another.
pub const HEAD_BYTES_LIMIT: usize = 1 << 20;
/// Largest [`HttpLimits::line_bytes_max`]: apps and servers of HTTP/2 are asked for a URI, which has less than 64 KiB.
pub const LINE_BYTES_LIMIT: usize = 60 << 10;
/// Largest [`HttpLimits::head_bytes_max`]: a node knows by it what to expect of another.
pub const HEADERS_LIMIT: usize = 256;
/// Bytes that the platform and handlers add to a request's head between two nodes.
const ADDED_BYTES_MAX: usize = 64 << 10;
/// Header lines that the platform and handlers add between two nodes: the platform about twelve, handlers what they
/// set.
const ADDED_HEADERS_MAX: usize = 128;
/// Largest HTTP/2 frame that clients may send.
const FRAME_BYTES: usize = 16 << 10;

/// Limits of a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadLimits {
    pub(crate) bytes_max: usize,
    pub(crate) line_bytes_max: usize,
    pub(crate) headers_max: usize,
}

impl HeadLimits {
    /// Limits of heads that nodes of the fleet pass on: as large as any node may take from a client, and what is added
    /// on the way.
    pub(crate) const INTERNAL: Self = Self {
        bytes_max: HEAD_BYTES_LIMIT + ADDED_BYTES_MAX,
        line_bytes_max: HEAD_BYTES_LIMIT + ADDED_BYTES_MAX,
        headers_max: HEADERS_LIMIT + ADDED_HEADERS_MAX,
    };
}

/// Limits on what a client may take of a child.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Limits of connections, whatever is spoken on them.
    pub net: net::NetLimits,
    /// Longest time from a head's first byte to its last.
    pub head_timeout: Duration,
    /// Longest time between requests; above the 60 s of common load balancers, which must be the ones to close.
    pub idle_timeout: Duration,
    /// Longest wait between two reads of a request's body that somebody waits for.
    pub body_timeout: Duration,
    /// Longest silence in a conversation, as in gRPC, where both sides may have nothing to say for a while: between two
    /// pieces of a request's body of unknown length that goes to a server of HTTP/2, or of gRPC, which has not answered
    /// yet; and of client and app at once where an app answers beside such a body. Once there is a server's response,
    /// the upstream's idle timeout holds in its place.
    pub two_way_silence_max: Duration,
    /// Longest time of reading on from a client that has had its response and still sends, so that no reset eats that
    /// response (nginx's number). In a drain no longer than `net.drain_window`.
    pub linger_timeout: Duration,
    /// Silence of a client that is read on from, after which it is believed to have read the response.
    pub linger_silence_max: Duration,
    /// Longest time that a write may be blocked.
    pub write_timeout: Duration,
    /// Longest time without a byte in a tunnel; the pings of WebSockets come more often.
    pub tunnel_idle_timeout: Duration,
    /// Most bytes of a head, in either protocol: cookies are large, attacks larger (431). At most [`HEAD_BYTES_LIMIT`].
    pub head_bytes_max: usize,
    /// Most bytes of a request line (414). At most [`LINE_BYTES_LIMIT`].
    pub line_bytes_max: usize,
    /// Most header lines (431). At most [`HEADERS_LIMIT`].
    pub headers_max: usize,
    /// Most bytes that are read of a body that nobody wanted, to keep the connection.
    pub drain_bytes_max: u64,
    /// Least rate of a request's body while somebody waits for it. Nothing by default: a log shipper that pauses,
    /// and a phone in a tunnel, bring less than any number that would keep an attacker away, and `body_timeout` ends
    /// what stands still.
    pub body_bytes_per_s_min: u32,
    /// `body_bytes_per_s_min` while at least half of `connections_max` are open, so that each costs others something
    /// (Kestrel's number): who wants to hold a connection brings less.
    pub crowded_body_bytes_per_s_min: u32,
    /// Time of waiting over which the rate of a body is measured.
    pub body_grace: Duration,
    /// Least rate at which a client must take a reply that is ready for it, measured over `write_timeout` of waiting.
    pub write_bytes_per_s_min: u32,
    /// Longest time without a byte, either way, of a request that a node of ours sent: that node judges its client by
    /// its own limits and by its build's, which allow an hour at most. A node that died is noticed by the kernel's
    /// probes.
    pub inner_idle_timeout: Duration,
    /// Most streams at once on an HTTP/2 connection.
    pub h2_streams_max: u32,
    /// Bytes that a client may send ahead on an HTTP/2 stream, to begin with. What a page's forms need, and small
    /// where many streams bring nothing.
    pub h2_stream_window_bytes: u32,
    /// Largest window of a stream, for uploads that fill theirs within a round trip: 40 MB/s at 100 ms.
    pub h2_stream_window_bytes_max: u32,
    /// Window of all streams of a connection together, or of one stream if that has more. Bounds what a connection's
    /// bodies hold.
    pub h2_connection_window_bytes: u32,
    /// Most bytes that the windows of all connections of a child have grown by at once. Beyond it they stay as they
    /// are: uploads from far away are slower then.
    pub h2_windows_bytes_max: usize,
    /// Limits on frames that cost us more than the client.
    pub h2: Http2Limits,
}

/// Limits on what a client may do on one HTTP/2 connection in an interval, besides sending requests and taking
/// responses. Above any of them the connection ends with `ENHANCE_YOUR_CALM`.
#[derive(Clone, Copy, Debug)]
pub struct Http2Limits {
    /// Interval that the numbers below are for.
    pub interval: Duration,
    /// Streams reset (rapid reset, CVE-2023-44487). A page that is left resets all that it asked for; an attack
    /// does it thousands of times a second.
    pub resets_max: u32,
    /// Streams that were opened and reset before we looked at them.
    pub pending_resets_max: usize,
    /// Streams that we reset for a client's faults (CVE-2025-8671, where a client makes us reset).
    pub error_resets_max: usize,
    /// `PING`s. gRPC measures bandwidth with some a second.
    pub pings_max: u32,
    /// `SETTINGS`. Clients send one, and one more when they tune.
    pub settings_max: u32,
    /// `DATA` without content and without end.
    pub empty_frames_max: u32,
    /// `PRIORITY`, and frames of types that we do not know. Browsers send a few for each stream.
    pub idle_frames_max: u32,
    /// `WINDOW_UPDATE`s, beside those that answer `DATA` of ours, and separately those that are tiny, beside those that
    /// answer pieces of replies.
    pub window_updates_max: u32,
    /// Least bytes that a `WINDOW_UPDATE` opens that is not tiny: a tiny one asks for a frame of its own for next to
    /// nothing.
    pub window_update_bytes_min: u32,
    /// `CONTINUATION`s of one header block (CVE-2024-27316). The largest header list needs two frames.
    pub continuations_max: u32,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            resets_max: 500,
            pending_resets_max: 20,
            error_resets_max: 100,
            pings_max: 500,
            settings_max: 50,
            empty_frames_max: 100,
            idle_frames_max: 2_000,
            window_updates_max: 2_000,
            window_update_bytes_min: 256,
            continuations_max: 5,
        }
    }
}

impl HttpLimits {
    /// Windows of a client's HTTP/2 connection.
    pub(crate) fn h2_windows(&self) -> WindowSizes {
        WindowSizes {
            stream_bytes: self.h2_stream_window_bytes,
            stream_bytes_max: self.h2_stream_window_bytes_max,
            connection_bytes: self.h2_connection_window_bytes,
            growth_bytes_max: self.h2_windows_bytes_max,
        }
    }

    /// Limits of a request's head.
    pub(crate) fn head(&self) -> HeadLimits {
        HeadLimits {
            bytes_max: self.head_bytes_max,
            line_bytes_max: self.line_bytes_max.min(LINE_BYTES_LIMIT),
            headers_max: self.headers_max.min(HEADERS_LIMIT),
        }
    }

    /// Largest header list of an HTTP/2 request that is read: more than `head_bytes_max`, so that what is too large is
    /// answered, logged and counted as by HTTP/1.1.
    pub(crate) fn h2_header_list_bytes_max(&self) -> u32 {
        let fields = FIELD_BYTES * HEADERS_LIMIT;
        u32::try_from(2 * self.head_bytes_max + fields).unwrap_or(u32::MAX)
    }

    /// Most `CONTINUATION`s of one header block: those that the largest header list needs, at least.
    pub(crate) fn h2_continuations_max(&self) -> u32 {
        let needed = self.h2_header_list_bytes_max() as usize / FRAME_BYTES + 1;
        u32::try_from(needed).map_or(u32::MAX, |needed| needed.max(self.h2.continuations_max))
    }

    /// Pace of what a node of ours sends and takes.
    pub(crate) fn inner_rule(&self) -> PaceRule {
        PaceRule {
            still_max: self.inner_idle_timeout,
            window: self.inner_idle_timeout,
            bytes_per_s_min: 0,
        }
    }

    /// Pace at which a client has to take a reply.
    pub(crate) fn write_rule(&self) -> PaceRule {
        PaceRule {
            still_max: self.write_timeout,
            window: self.write_timeout,
            bytes_per_s_min: self.write_bytes_per_s_min,
        }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            net: net::NetLimits::default(),
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            two_way_silence_max: Duration::from_secs(300),
            linger_timeout: Duration::from_secs(30),
            linger_silence_max: Duration::from_secs(5),
            write_timeout: Duration::from_secs(60),
            tunnel_idle_timeout: Duration::from_secs(3_600),
            head_bytes_max: 32 << 10,
            line_bytes_max: 8 << 10,
            headers_max: 100,
            drain_bytes_max: 256 << 10,
            body_bytes_per_s_min: 0,
            crowded_body_bytes_per_s_min: 240,
            body_grace: Duration::from_secs(10),
            write_bytes_per_s_min: 240,
            inner_idle_timeout: Duration::from_secs(3_600),
            h2_streams_max: 100,
            h2_stream_window_bytes: 64 << 10,
            h2_stream_window_bytes_max: 4 << 20,
            h2_connection_window_bytes: 1 << 20,
            h2_windows_bytes_max: 64 << 20,
            h2: Http2Limits::default(),
        }
    }
}
