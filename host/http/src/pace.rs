//! Pace that the client of one request has to keep, where its connection's own limits do not hold.

use std::time::Duration;

/// Pace that a service sets for a request's client while it is called, by [`Hop::pace`](crate::Hop::pace).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientPace {
    /// A node of ours sent the request, and judges the client that came to it: what it passes on is as fast as that
    /// client, and must not be judged by another measure.
    JudgedBefore,
    /// The route sets the pace of the request's body. What it leaves out is as the connection's limits say.
    Body {
        /// Longest wait between two reads.
        timeout: Option<Duration>,
        /// Least rate while the body is waited for; 0 is any.
        bytes_per_s_min: Option<u32>,
    },
}
