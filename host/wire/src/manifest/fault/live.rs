//! Faults of channels and of who may connect to them.

use crate::manifest::ITEM_BYTES;

/// Rules of channels that could not be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiveFault {
    /// The namespace is the nodes' own.
    #[error(
        "live.namespaces has `{0}`, which nodes use themselves for keys that change; name it otherwise"
    )]
    OwnNamespace(&'static str),
    /// No channel can name this namespace.
    #[error(
        "live.namespaces has `{0}`; a namespace is 1 to 64 of a-z, 0-9, `-`, `_`, and starts with a letter"
    )]
    Namespace(String),
    /// No browser says this origin.
    #[error(
        "origins has `{0}`; write it as a browser does, `https://app.example.com` or `http://localhost:5173`, without a \
         path, or `*` for all"
    )]
    Origin(String),
    /// No handler can speak this subprotocol.
    #[error(
        "subprotocols has `{subprotocol}`; a subprotocol is one word without separators, and `{own}…` is for \
         channels, which need no entry"
    )]
    Subprotocol {
        /// The subprotocol that was written.
        subprotocol: String,
        /// Prefix of the nodes' own subprotocols.
        own: &'static str,
    },
    /// Two messages of the allowed size would fill a queue.
    #[error(
        "message_bytes_max is {message}; at most half of live.queue_bytes_max, which is {queue}, or two messages would \
         close every connection"
    )]
    MessageBytes {
        /// Bytes that a message may have.
        message: u64,
        /// Bytes of a connection's queue.
        queue: u64,
    },
    /// The history takes more than half of a queue, so nobody could ever be given all of it.
    #[error(
        "history_bytes_max is {bytes}, and history_messages_max {messages}: with {ITEM_BYTES} bytes for each message, \
         {in_queue} bytes wait for one who has missed all of it, more than half of live.queue_bytes_max, which is \
         {queue}, and nobody could ever be given what it missed; keep less, or write queue_bytes_max = {enough} in [live]",
        enough = .in_queue.saturating_mul(2)
    )]
    History {
        /// Bytes of the history.
        bytes: u64,
        /// Messages of the history.
        messages: u32,
        /// Bytes of a queue that holds all of it.
        in_queue: u64,
        /// Bytes of a connection's queue.
        queue: u64,
    },
}
