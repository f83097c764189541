//! Pace that the client of one request has to keep, where its connection's own limits do not hold.

use std::time::Duration;

/// Pace that a service sets for a request's client while it is called, by [`Hop::pace`](crate::Hop::pace).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientPace {
    /// A node of ours sent the request. It judges the client that came to it; what it passes on is as fast as that
    /// client, and must not be judged by another measure.
    JudgedBefore,
    /// The route says it of the request's body. What is left out is the connection's.
    Body {
        /// Between two reads.
        timeout: Option<Duration>,
        /// While it is waited for; 0 is any.
        bytes_per_s_min: Option<u32>,
    },
}
