//! One request and its reply, as connections hand them to handlers and back.
//!
//! Shared by `edge`, which reads and writes them, and `handler`, which runs on them. No I/O.

mod body;
mod head;
mod interim;
mod lines;
pub mod normal;
mod notes;
mod reply;
mod switch;

pub use body::{Body, BodyError};
pub use head::{Head, HeaderField, Hop, Scheme};
pub use interim::{Interim, Interims};
pub use lines::{Lines, fields};
pub use notes::{Noted, Notes};
pub use reply::{Answer, RelayBody, Reply, ReplyBody, StreamError};
pub use switch::{Duplex, Onward, Switch, Switched};
