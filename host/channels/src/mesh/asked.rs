//! Requests of the caller about its own connections, and effects of several events together.

use super::{Effects, Mesh};
use crate::ConnectionId;
use std::sync::Arc;

impl<T: Copy, R> Mesh<T, R> {
    /// The channel of a connection's subscription, as messages in its queue name it; `None` once it has ended.
    pub fn channel_of(&self, id: ConnectionId, subscription: u32) -> Option<&Arc<str>> {
        self.context.connections.channel_of(id, subscription)
    }

    /// The channels that a connection is subscribed to, or has asked to be, in no order.
    pub fn subscriptions(&self, id: ConnectionId) -> impl Iterator<Item = &Arc<str>> {
        self.context.connections.channels(id)
    }

    /// Whether a connection has a subscription to a channel, answered or not.
    pub fn is_subscribed(&self, id: ConnectionId, channel: &str) -> bool {
        self.context.connections.is_subscribed(id, channel)
    }
}

impl<T> Effects<T> {
    /// Adds the effects of the event after.
    pub fn extend(&mut self, more: Self) {
        self.wake.extend(more.wake);
        self.close.extend(more.close);
        self.answers.extend(more.answers);
        self.send.extend(more.send);
        self.connect.extend(more.connect);
    }
}
