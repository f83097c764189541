//! Requests that were refused or cut for what they said in HTTP, and why. Read by the node's metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a client was refused or cut for what it said in HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A head that came too slowly.
    SlowHead,
    /// A head that cannot be understood, or a request's body (400).
    Malformed,
    /// A head that is too large, or has too many lines (431).
    HeadTooLarge,
    /// A request line that is too long (414).
    LineTooLong,
    /// Something that is not spoken here (501).
    Unknown,
    /// Another version of HTTP (505).
    Version,
    /// No further request came.
    Idle,
    /// A request's body that came too slowly.
    SlowBody,
    /// A reply that was taken too slowly.
    SlowReader,
    /// HTTP/2: streams opened and reset.
    Http2Resets,
    /// HTTP/2: `PING`.
    Http2Pings,
    /// HTTP/2: `SETTINGS`.
    Http2Settings,
    /// HTTP/2: `CONTINUATION`.
    Http2Continuations,
    /// HTTP/2: frames without content.
    Http2EmptyFrames,
    /// HTTP/2: `PRIORITY` and frames of unknown type.
    Http2Idle,
    /// HTTP/2: `WINDOW_UPDATE`s that open next to nothing.
    Http2Windows,
    /// HTTP/2: what h2 refused by limits of its own.
    Http2Protocol,
    /// HTTP/2: more streams at once than a connection may have.
    Http2Streams,
}

/// Every cause with its name in metrics.
const CAUSES: [(Cause, &str); 18] = [
    (Cause::SlowHead, "slow-head"),
    (Cause::Malformed, "malformed"),
    (Cause::HeadTooLarge, "head-too-large"),
    (Cause::LineTooLong, "line-too-long"),
    (Cause::Unknown, "not-implemented"),
    (Cause::Version, "version"),
    (Cause::Idle, "idle"),
    (Cause::SlowBody, "slow-body"),
    (Cause::SlowReader, "slow-reader"),
    (Cause::Http2Resets, "h2-resets"),
    (Cause::Http2Pings, "h2-pings"),
    (Cause::Http2Settings, "h2-settings"),
    (Cause::Http2Continuations, "h2-continuations"),
    (Cause::Http2EmptyFrames, "h2-empty-frames"),
    (Cause::Http2Idle, "h2-idle-frames"),
    (Cause::Http2Windows, "h2-windows"),
    (Cause::Http2Protocol, "h2-protocol"),
    (Cause::Http2Streams, "h2-streams"),
];

/// A count for each cause.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; CAUSES.len()]);

impl Counters {
    pub(crate) fn count(&self, cause: Cause) {
        self.0[cause as usize].fetch_add(1, Relaxed);
    }

    /// How often.
    pub fn of(&self, cause: Cause) -> u64 {
        self.0[cause as usize].load(Relaxed)
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CAUSES.iter().map(|(cause, name)| (*name, self.of(*cause)))
    }
}
