//! One request and its reply, as connections hand them to handlers and back.
//!
//! Shared by `server`, which reads and writes them, `upstream`, which relays them, and `handler`, which runs on them; and
//! with them what HTTP itself says of heads and bodies: names of fields, targets, chunks, trailers, forwarding headers,
//! conditions and ranges. No I/O.

pub mod asset;
mod body;
pub mod chunked;
pub mod field;
pub mod forward;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod head;
mod interim;
mod lines;
pub mod normal;
mod notes;
mod pace;
mod read_buffer;
mod reply;
mod response_head;
mod switch;
pub mod target;
mod text_buffer;
pub mod trailers;

pub use body::{Body, BodyError, BodyPace, SharedPace};
pub use head::{BUILD_HEADER, Head, HeaderField, Hop, Internal, ORIGIN_HEADER, RequestId, Scheme};
pub use interim::{Interim, Interims};
pub use lines::{HeaderLines, fields};
pub use notes::{AccessFields, AccessNotes};
pub use pace::ClientPace;
pub use read_buffer::ReadBuffer;
pub use reply::{Answer, RelayBody, Reply, ReplyBody, SocketBody, SocketRest, StreamError, Tunnel};
pub use response_head::{
    RESPONSE_HEAD_BYTES_MAX, RESPONSE_HEADERS_MAX, RESPONSE_TOO_LARGE, RESPONSE_TOO_MANY_LINES,
    check_response_head,
};
pub use switch::{Switch, SwitchTask, Switched};
pub use text_buffer::TextBuffer;
