//! What both ends of HTTP/2 do with `h2`'s streams and connections: bodies in and out, streams that became tunnels,
//! windows that grow, and pings.
//!
//! `server` uses it towards clients, `upstream` towards servers. No frame is made or read here.

mod keep_alive;
mod pipe;
mod received;
mod stream_io;
mod windows;

pub use keep_alive::KeepAlive;
pub use pipe::{Pipe, PipeError, ResetReason};
pub use received::{ReceiveError, ReceivedBody};
pub use stream_io::StreamIo;
pub use windows::{Receiving, WindowBudget, WindowSizes, Windows};

/// Bytes that each field of a header list counts beside its own (RFC 9113, section 6.5.2).
pub const FIELD_BYTES: usize = 32;
