//! Live channels, without I/O: who is subscribed, what was published, what may be asked for again, who is there, what
//! waits for whom, and what the children of a fleet say to each other so that each channel is the same everywhere.
//! Events and the time come in; no clock, socket or guest is touched, so that a model can be compared with all of it.

mod channel;
mod connections;
mod context;
mod directory;
mod frame;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod limits;
mod links;
mod local;
mod mesh;
mod message;
mod outbox;
mod owned;
mod position;
mod presence;
mod recent;
mod requests;
mod ring;
mod rules;

pub use connections::{ConnectionId, QueueItem};
pub use directory::Child;
pub use frame::{FRAME_BYTES_MAX, Frame, FrameError};
pub use mesh::{Effects, Mesh};
pub use message::{Form, Message};
pub use outbox::{ITEM_BYTES, Item, Outbox, Overflow, Queued, SubscriptionNumber};
pub use position::{NoPosition, Position};
pub use presence::{Change, Presence, PresenceDelays};
pub use recent::{Memory, Recent};
pub use ring::{History, Ring};
pub use rules::{Answer, ConnectionLimits, Notice, Published, Refusal, Rules, Subscribed};
