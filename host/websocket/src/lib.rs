//! WebSocket (RFC 6455), the server's side: bytes in, messages out, and frames that may be shared by many receivers.
//! No socket is touched here. `permessage-deflate` (RFC 7692) is taken without context takeover in either direction:
//! a connection then keeps no dictionary, and a message is deflated once for all who receive it.

mod deflate;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod handshake;
mod reader;
#[cfg(test)]
mod tests;

pub use deflate::deflate;
pub use frame::{Opcode, close_frame, frame};
pub use handshake::{DEFLATE_EXTENSION, Handshake, HandshakeError, accept};
pub use reader::{FrameEvent, MessageLimits, MessageReader};

/// Codes of a closing handshake (RFC 6455, section 7.4.1, and IANA's registry).
pub mod code {
    /// The purpose has been fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server goes away, or the page does.
    pub const GOING_AWAY: u16 = 1001;
    /// The other end broke the protocol.
    pub const PROTOCOL: u16 = 1002;
    /// Text that is not UTF-8.
    pub const NOT_UTF8: u16 = 1007;
    /// A policy was broken, such as the size of a queue.
    pub const POLICY: u16 = 1008;
    /// A message above the limit.
    pub const TOO_LARGE: u16 = 1009;
    /// The server restarts; come back.
    pub const RESTART: u16 = 1012;
}

/// Why a connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code})")]
pub struct Violation {
    /// Code that the other end is told.
    pub code: u16,
    /// What the other end did.
    pub reason: &'static str,
}

impl Violation {
    const fn protocol(reason: &'static str) -> Self {
        let code = code::PROTOCOL;
        Self { code, reason }
    }
}
