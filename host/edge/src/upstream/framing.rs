//! How a message's body is framed on a connection of ours.

/// Of a request that we send, or a response that we read.
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
