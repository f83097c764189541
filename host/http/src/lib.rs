//! One request and its reply, as connections hand them to handlers and back.
//!
//! Shared by `edge`, which reads and writes them, and `handler`, which runs on them. No I/O.

mod body;
mod head;
mod interim;
mod lines;
pub mod normal;
mod notes;
mod pace;
mod reply;
mod switch;

pub use body::{Body, BodyError, Pace, Pacing};
pub use head::{BUILD_HEADER, Head, HeaderField, Hop, Internal, ORIGIN_HEADER, Scheme};
pub use interim::{Interim, Interims};
pub use lines::{Lines, fields};
pub use notes::{Noted, Notes};
pub use pace::ClientPace;
pub use reply::{Answer, RelayBody, Reply, ReplyBody, StreamError};
pub use switch::{Duplex, Onward, Switch, Switched};
