//! How the end of a message's body is told, on a connection to a server.

/// Framing of a request that is sent to a server, or of a response that is read from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body follows.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// A body in chunks, up to the last one.
    Chunked,
    /// A body up to the end of the connection (responses only).
    Close,
}
