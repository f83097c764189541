//! Framing of a message's body on a connection of ours.

/// Framing of a request that we send, or a response that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body follows.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection closes (responses only).
    Close,
}
