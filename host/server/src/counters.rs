//! Counts of requests that were refused or cut for what they said in HTTP, by cause. The node's metrics read them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a client was refused or cut for what it said in HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpCause {
    /// A head that came too slowly.
    SlowHead,
    /// A head that cannot be understood, or a request's body (400).
    Malformed,
    /// A head that is too large, or has too many lines (431).
    HeadTooLarge,
    /// A request line that is too long (414).
    LineTooLong,
    /// The request asks for something that is not spoken here (501).
    Unknown,
    /// The request line names another version of HTTP (505).
    Version,
    /// No further request came on an idle connection.
    Idle,
    /// A request's body that came too slowly.
    SlowBody,
    /// A reply that was taken too slowly.
    SlowReader,
    /// HTTP/2: too many streams opened and reset.
    Http2Resets,
    /// HTTP/2: too many `PING` frames.
    Http2Pings,
    /// HTTP/2: too many `SETTINGS` frames.
    Http2Settings,
    /// HTTP/2: too many `CONTINUATION` frames of one head.
    Http2Continuations,
    /// HTTP/2: too many frames without content.
    Http2EmptyFrames,
    /// HTTP/2: too many `PRIORITY` frames and frames of unknown type.
    Http2Idle,
    /// HTTP/2: too many `WINDOW_UPDATE` frames that open next to nothing.
    Http2Windows,
    /// HTTP/2: h2 refused something by limits of its own.
    Http2Protocol,
    /// HTTP/2: more streams at once than a connection may have.
    Http2Streams,
}

/// Every cause with its name in metrics.
const CAUSES: [(HttpCause, &str); 18] = [
    (HttpCause::SlowHead, "slow-head"),
    (HttpCause::Malformed, "malformed"),
    (HttpCause::HeadTooLarge, "head-too-large"),
    (HttpCause::LineTooLong, "line-too-long"),
    (HttpCause::Unknown, "not-implemented"),
    (HttpCause::Version, "version"),
    (HttpCause::Idle, "idle"),
    (HttpCause::SlowBody, "slow-body"),
    (HttpCause::SlowReader, "slow-reader"),
    (HttpCause::Http2Resets, "h2-resets"),
    (HttpCause::Http2Pings, "h2-pings"),
    (HttpCause::Http2Settings, "h2-settings"),
    (HttpCause::Http2Continuations, "h2-continuations"),
    (HttpCause::Http2EmptyFrames, "h2-empty-frames"),
    (HttpCause::Http2Idle, "h2-idle-frames"),
    (HttpCause::Http2Windows, "h2-windows"),
    (HttpCause::Http2Protocol, "h2-protocol"),
    (HttpCause::Http2Streams, "h2-streams"),
];

/// Counts of refused and cut requests, by cause.
#[derive(Debug, Default)]
pub struct HttpCounters([AtomicU64; CAUSES.len()]);

impl HttpCounters {
    pub(crate) fn count(&self, cause: HttpCause) {
        self.0[cause as usize].fetch_add(1, Relaxed);
    }

    /// Count of one cause.
    pub fn of(&self, cause: HttpCause) -> u64 {
        self.0[cause as usize].load(Relaxed)
    }

    /// All counts, by the name of their cause in metrics.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CAUSES.iter().map(|(cause, name)| (*name, self.of(*cause)))
    }
}
