//! Types of the hub: the channels of this child, with the items that live connections are sent, and its tickets.

use super::Out;
use protoplex_channels::{ConnectionId, Item, Mesh, QueueItem};

/// The channels of one child over all children. Only [`super::channels::Channels`] has one.
pub(super) type Hub = Mesh<Ticket, Out>;
pub(super) type LiveItem = Item<QueueItem<Out>>;

/// Names who waits for an answer of the channels.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ticket {
    /// A client, by the id of its command; without an id, its handler subscribed it.
    Client(ConnectionId, Option<u64>),
    /// A registration for a key.
    Watch(ConnectionId),
    /// A request of a back end, by its number.
    Request(u64),
    /// Nobody.
    Nobody,
}
