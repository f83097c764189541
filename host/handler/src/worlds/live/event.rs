//! What a live handler is told, and what comes of it.

use crate::{HandlerError, state::Effect};

/// Bytes that a handler may remember of one connection.
pub const SAVED_BYTES_MAX: usize = 64 << 10;

/// Transport by which a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 6455 or RFC 8441.
    WebSocket,
    /// `text/event-stream`, with requests for what the client has to say.
    EventStream,
    /// Long polling: one request after another.
    LongPoll,
}

/// Why a connection is opened that never closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// State that the build before remembered could not be taken over.
    NotRestored,
    /// The instance that had the connection died.
    Lost,
}

/// A message of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveMessage<'a> {
    /// UTF-8.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// The guest's outcome of an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Effects that the host carries out, in order.
    Effects(Vec<Effect>),
    /// The client is not let in.
    Refused {
        /// Status that the guest gave.
        status: u16,
        /// Reason that the guest gave.
        reason: String,
    },
}

/// State of a connection that a handler remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Format of the bytes.
    pub schema: u32,
    /// At most [`SAVED_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// Why an event was not heard.
#[derive(Debug)]
pub enum LiveError {
    /// The instance that knew the connection died, in a call for another one: open it again.
    Lost,
    /// The call ended badly. A connection that was in that instance is lost.
    Handler(HandlerError),
}

impl From<HandlerError> for LiveError {
    fn from(error: HandlerError) -> Self {
        Self::Handler(error)
    }
}
