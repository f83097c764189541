//! What a live channel is, without I/O: who is subscribed, what was published, what may be asked for again, who is
//! there, and what waits for whom. Events and the time come in; no clock, socket or guest is touched, so that a model
//! can be compared with all of it.

mod hub;
mod message;
mod outbox;
mod position;
mod presence;
mod recent;
mod ring;

pub use hub::{
    ConnectionId, ConnectionLimits, Effects, Hub, Notice, Published, Refusal, Rules, Subscribed,
};
pub use message::{Form, Message};
pub use outbox::{ITEM_BYTES, Item, Outbox, Overflow, Queued, Subscription};
pub use position::{NoPosition, Position};
pub use presence::{Change, Patience, Presence};
pub use recent::{Memory, Recent};
pub use ring::{History, Ring};
