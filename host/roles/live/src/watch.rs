//! Registrations: whatever in a node keeps something of a key (a file, a mapping, an upload) hears when that key changes.
//!
//! A key is the channel `keys:KEY`, so changes have positions, and whoever was away for a moment is given what it missed.
//! Where that cannot be said with certainty it hears [`Change::Lost`], and drops what it keeps of the key.

use super::{Live, Out, hub::Ticket};
use bytes::Bytes;
use protoplex_channels::{
    ConnectionId, ConnectionLimits, History, Item, Memory, Notice, Overflow, PresenceDelays,
    QueueItem, Rules,
};
use std::{
    sync::{Arc, Weak},
    task::{Context, Poll},
};

/// The namespace of keys. Builds cannot have it.
pub(super) const NAMESPACE: &str = "keys";

/// A change says which part of a key is another one, or what it is now: a path, a digest.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Rules for the events of a key: a node that is away for some minutes drops little.
pub(super) const RULES: Rules = Rules {
    history: History {
        messages_max: 100,
        bytes_max: 64 << 10,
        age_ms_max: 300_000,
    },
    overflow: Overflow::Disconnect,
    memory: Memory {
        keys_max: 100,
        age_ms_max: 300_000,
    },
    presence: PresenceDelays {
        leave_after_ms: 0,
        expires_after_ms: super::PRESENCE_EXPIRES_MS,
    },
    message_bytes_max: MESSAGE_BYTES_MAX,
    subscribers_max: 100_000,
};

/// Limits on what may wait for one registration: above them it is cheaper to begin again.
const LIMITS: ConnectionLimits = ConnectionLimits {
    queue_bytes_max: 1 << 20,
    subscriptions_max: 1,
};

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The key changed, in the publisher's words.
    Changed(Bytes),
    /// Something may have changed unheard: what is kept of the key is to be dropped. Returned once in the beginning, when
    /// changes are heard from then on, so that what was kept before is not kept for ever.
    Lost,
}

/// A registration for the changes of a key, until it is dropped.
pub(crate) struct Registration {
    live: Weak<Live>,
    id: ConnectionId,
    channel: Arc<str>,
}

impl Live {
    /// Registers for changes of a key, from now on.
    pub(crate) fn register(live: &Arc<Live>, key: &str) -> Registration {
        let channel: Arc<str> = format!("{NAMESPACE}:{key}").into();
        let id = live.hub().open(LIMITS);
        live.connections.set_watcher(id, None);
        let registration = Registration {
            live: Arc::downgrade(live),
            id,
            channel,
        };
        registration.subscribe(live);
        registration
    }

    /// Closes the connection of a registration that did not keep up; its next change is [`Change::Lost`].
    pub(super) fn end_watcher(&self, id: ConnectionId) {
        self.apply(|hub, now_ms| hub.close(now_ms, id));
        self.connections.wake_watcher(id);
    }
}

impl Registration {
    fn subscribe(&self, live: &Live) {
        let ticket = Ticket::Watch(self.id);
        live.apply(|hub, now_ms| hub.subscribe(now_ms, ticket, self.id, &self.channel, None, None));
    }

    /// The next change of the key.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Change> {
        let Some(live) = self.live.upgrade() else {
            return Poll::Pending;
        };
        live.connections
            .set_watcher(self.id, Some(cx.waker().clone()));
        loop {
            let item = live.hub().next(self.id);
            return Poll::Ready(match item {
                None if live.hub().backlog(self.id).is_some() => return Poll::Pending,
                None => {
                    live.connections.remove_watcher(self.id);
                    self.id = live.hub().open(LIMITS);
                    live.connections.set_watcher(self.id, None);
                    self.subscribe(&live);
                    Change::Lost
                }
                Some(Item::Message(_, message)) => Change::Changed(message.data.clone()),
                Some(Item::Reply(QueueItem::Notice(Notice::Reset(..)), _)) => Change::Lost,
                // It hears of the key from here on.
                Some(Item::Reply(QueueItem::Reply(Out::Object(_)), _)) => Change::Lost,
                // Nobody took the subscription: it is asked for again.
                Some(Item::Reply(QueueItem::Reply(Out::Close(..)), _)) => {
                    self.subscribe(&live);
                    Change::Lost
                }
                Some(Item::Reply(..)) => continue,
            });
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(live) = self.live.upgrade() {
            live.connections.remove_watcher(self.id);
            live.apply(|hub, now_ms| hub.close(now_ms, self.id));
        }
    }
}
