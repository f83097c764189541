//! The channels that one child owns, and the connections that are subscribed to them: an event and the time come in,
//! messages go into the connections' queues, and the caller hears whom to wake and whom to close.

use crate::{
    Change, History, Item, Memory, Message, Outbox, Overflow, Patience, Position, Presence, Queued,
    Recent, Ring,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

/// A connection of this child; never used again.
pub type ConnectionId = u64;

/// The node number of this child's own connections in [`Presence`].
const HERE: u32 = 0;

/// What holds for the channels of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What may be asked for again.
    pub history: History,
    /// What becomes of messages for those who do not keep up.
    pub overflow: Overflow,
    /// How long publishers may repeat themselves.
    pub memory: Memory,
    /// How presence is debounced.
    pub patience: Patience,
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// Subscribers of one channel in this child.
    pub subscribers_max: usize,
}

/// What a connection costs at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Bytes that wait for it.
    pub queue_bytes_max: usize,
    /// Channels.
    pub subscriptions_max: usize,
}

/// Why something was refused; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such connection (any more).
    NoConnection,
    /// A channel without rules.
    NoNamespace,
    /// It is subscribed already.
    Subscribed,
    /// Above [`ConnectionLimits::subscriptions_max`].
    TooManySubscriptions(usize),
    /// Above [`Rules::subscribers_max`].
    TooManySubscribers(usize),
    /// Above [`Rules::message_bytes_max`].
    TooLarge {
        /// Bytes that came.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

/// The answer to a subscription.
#[derive(Debug)]
pub struct Subscribed {
    /// The channel, in messages of this connection.
    pub subscription: u32,
    /// Where its stream stands after `missed`.
    pub position: Position,
    /// Whether nothing lies between the position that was named and `missed`; `None` where none was named.
    pub recovered: Option<bool>,
    /// What came since, oldest first.
    pub missed: Vec<Arc<Message>>,
    /// Who is there.
    pub members: Vec<Arc<str>>,
}

/// The answer to a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where it stands.
    pub position: Position,
    /// The same key had been used before: nothing was published now.
    pub repeated: bool,
}

/// What the caller has to do after an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// These have something to write, and had nothing before.
    pub wake: Vec<ConnectionId>,
    /// These did not keep up, on a channel whose messages may not be missed.
    pub close: Vec<ConnectionId>,
}

/// What a hub writes to a connection besides messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Somebody came to, or left, the channel of that subscription.
    Presence(u32, Change<Arc<str>>),
}

struct Channel {
    ring: Ring,
    recent: Recent,
    presence: Presence<Arc<str>>,
    /// With the subscription's number at that connection.
    subscribers: BTreeMap<ConnectionId, u32>,
    /// Connections of each member.
    here: HashMap<Arc<str>, u32>,
}

struct Connection {
    outbox: Outbox<Notice>,
    limits: ConnectionLimits,
    /// The caller has been told to close it; nothing more is for it.
    overflowed: bool,
    subscriptions: HashMap<Arc<str>, (u32, Option<Arc<str>>)>,
    subscriptions_ever: u32,
}

/// See the module. A channel is named `NAMESPACE:KEY`.
pub struct Hub {
    rules: HashMap<Box<str>, Rules>,
    channels: HashMap<Arc<str>, Channel>,
    connections: HashMap<ConnectionId, Connection>,
    connections_ever: ConnectionId,
    epochs: Box<dyn FnMut() -> u64 + Send>,
}

impl Hub {
    /// Without channels or connections. `epochs` gives a number that was never given before, also not before a restart.
    pub fn new(
        rules: impl IntoIterator<Item = (Box<str>, Rules)>,
        epochs: impl FnMut() -> u64 + Send + 'static,
    ) -> Self {
        Self {
            rules: rules.into_iter().collect(),
            channels: HashMap::new(),
            connections: HashMap::new(),
            connections_ever: 0,
            epochs: Box::new(epochs),
        }
    }

    /// Channels and connections.
    pub fn counts(&self) -> (usize, usize) {
        (self.channels.len(), self.connections.len())
    }

    /// A connection was opened.
    pub fn open(&mut self, limits: ConnectionLimits) -> ConnectionId {
        self.connections_ever += 1;
        let connection = Connection {
            outbox: Outbox::new(limits.queue_bytes_max),
            limits,
            overflowed: false,
            subscriptions: HashMap::new(),
            subscriptions_ever: 0,
        };
        self.connections.insert(self.connections_ever, connection);
        self.connections_ever
    }

    /// A connection is gone. What waited for it is dropped: it asks again from where it was.
    pub fn close(&mut self, now_ms: u64, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        for (name, (_, member)) in connection.subscriptions {
            self.leave(now_ms, id, &name, member);
        }
    }

    /// A connection wants the messages of a channel: from now on, or from where it was. `member` is who it is to others.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn subscribe(
        &mut self,
        now_ms: u64,
        id: ConnectionId,
        name: &Arc<str>,
        from: Option<Position>,
        member: Option<Arc<str>>,
    ) -> Result<(Subscribed, Effects), Refusal> {
        let rules = self.rules_of(name)?;
        let connection = self.connections.get_mut(&id).ok_or(Refusal::NoConnection)?;
        if connection.subscriptions.contains_key(name) {
            return Err(Refusal::Subscribed);
        }
        let most = connection.limits.subscriptions_max;
        if connection.subscriptions.len() >= most {
            return Err(Refusal::TooManySubscriptions(most));
        }
        let channel = channel(&mut self.channels, &mut self.epochs, name, &rules);
        if channel.subscribers.len() >= rules.subscribers_max {
            return Err(Refusal::TooManySubscribers(rules.subscribers_max));
        }
        connection.subscriptions_ever += 1;
        let subscription = connection.subscriptions_ever;
        connection
            .subscriptions
            .insert(Arc::clone(name), (subscription, member.clone()));
        let missed = from.map(|from| {
            let missed = channel.ring.since(now_ms, from);
            missed.map(|missed| missed.cloned().collect())
        });
        channel.subscribers.insert(id, subscription);
        let mut effects = Effects::default();
        if let Some(member) = member {
            let count = channel.here.entry(Arc::clone(&member)).or_default();
            *count += 1;
            let change = channel.presence.report(now_ms, HERE, &member);
            if let Some(change) = change {
                tell(
                    &mut self.connections,
                    channel,
                    Some(id),
                    &change,
                    &mut effects,
                );
            }
        }
        let answer = Subscribed {
            subscription,
            position: channel.ring.position(),
            recovered: missed.as_ref().map(Option::is_some),
            missed: missed.flatten().unwrap_or_default(),
            members: channel.presence.members(),
        };
        Ok((answer, effects))
    }

    /// A connection wants no more of a channel. Whether it was subscribed.
    pub fn unsubscribe(&mut self, now_ms: u64, id: ConnectionId, name: &Arc<str>) -> bool {
        let connection = self.connections.get_mut(&id);
        let Some((_, member)) = connection.and_then(|known| known.subscriptions.remove(name))
        else {
            return false;
        };
        self.leave(now_ms, id, name, member);
        true
    }

    /// Publishes; when it returns, the message has its place for good.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn publish(
        &mut self,
        now_ms: u64,
        name: &Arc<str>,
        data: Bytes,
        idempotency_key: Option<&str>,
    ) -> Result<(Published, Effects), Refusal> {
        let rules = self.rules_of(name)?;
        let max = rules.message_bytes_max;
        if data.len() > max {
            let bytes = data.len();
            return Err(Refusal::TooLarge { bytes, max });
        }
        let channel = channel(&mut self.channels, &mut self.epochs, name, &rules);
        let before = idempotency_key.and_then(|key| channel.recent.answered(now_ms, key));
        if let Some(position) = before {
            let repeated = true;
            return Ok((Published { position, repeated }, Effects::default()));
        }
        let message = channel.ring.push(now_ms, data);
        if let Some(key) = idempotency_key {
            channel.recent.remember(now_ms, key, message.position);
        }
        let mut effects = Effects::default();
        for (id, subscription) in &channel.subscribers {
            effects.queue(&mut self.connections, *id, |outbox| {
                outbox.message(*subscription, &message, rules.overflow)
            });
        }
        let published = Published {
            position: message.position,
            repeated: false,
        };
        Ok((published, effects))
    }

    /// The next thing to write to a connection.
    pub fn next(&mut self, id: ConnectionId) -> Option<Item<Notice>> {
        self.connections.get_mut(&id)?.outbox.pop()
    }

    /// Bytes that wait for a connection, and messages that were dropped for it.
    pub fn backlog(&self, id: ConnectionId) -> Option<(usize, u64)> {
        let outbox = &self.connections.get(&id)?.outbox;
        Some((outbox.bytes(), outbox.dropped()))
    }

    /// To be called now and then: tells who has left, and forgets what nobody can ask for any more.
    pub fn tick(&mut self, now_ms: u64) -> Effects {
        let mut effects = Effects::default();
        for channel in self.channels.values_mut() {
            channel.ring.trim(now_ms);
            channel.recent.trim(now_ms);
            for member in channel.here.keys() {
                channel.presence.report(now_ms, HERE, member);
            }
            for change in channel.presence.tick(now_ms) {
                tell(&mut self.connections, channel, None, &change, &mut effects);
            }
        }
        // One without history may still have given out positions: whoever comes back with one of them is told that it
        // is of another epoch.
        self.channels.retain(|_, channel| {
            !channel.subscribers.is_empty()
                || !channel.ring.is_empty()
                || !channel.recent.is_empty()
                || !channel.presence.is_empty()
        });
        effects
    }

    fn rules_of(&self, name: &str) -> Result<Rules, Refusal> {
        let (namespace, _) = name.split_once(':').ok_or(Refusal::NoNamespace)?;
        self.rules
            .get(namespace)
            .copied()
            .ok_or(Refusal::NoNamespace)
    }

    fn leave(&mut self, now_ms: u64, id: ConnectionId, name: &Arc<str>, member: Option<Arc<str>>) {
        let Some(channel) = self.channels.get_mut(name) else {
            return;
        };
        channel.subscribers.remove(&id);
        let Some(member) = member else { return };
        if let Entry::Occupied(mut count) = channel.here.entry(member) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                let (member, _) = count.remove_entry();
                channel.presence.gone(now_ms, HERE, &member);
            }
        }
    }
}

fn channel<'a>(
    channels: &'a mut HashMap<Arc<str>, Channel>,
    epochs: &mut (impl FnMut() -> u64 + ?Sized),
    name: &Arc<str>,
    rules: &Rules,
) -> &'a mut Channel {
    channels.entry(Arc::clone(name)).or_insert_with(|| Channel {
        ring: Ring::new(epochs(), rules.history),
        recent: Recent::new(rules.memory),
        presence: Presence::new(rules.patience),
        subscribers: BTreeMap::new(),
        here: HashMap::new(),
    })
}

/// Tells all subscribers but one of somebody who came or left. Who has no room for it is closed: a list of members with
/// holes is worse than none.
fn tell(
    connections: &mut HashMap<ConnectionId, Connection>,
    channel: &Channel,
    but: Option<ConnectionId>,
    change: &Change<Arc<str>>,
    effects: &mut Effects,
) {
    let (Change::Joined(member) | Change::Left(member)) = change;
    for (id, subscription) in &channel.subscribers {
        if but == Some(*id) {
            continue;
        }
        effects.queue(connections, *id, |outbox| {
            let notice = Notice::Presence(*subscription, change.clone());
            match outbox.reply(notice, member.len()) {
                true => Queued::Yes,
                false => Queued::Overflowed,
            }
        });
    }
}

impl Effects {
    /// Puts something into a connection's queue, and notes what follows from that.
    fn queue(
        &mut self,
        connections: &mut HashMap<ConnectionId, Connection>,
        id: ConnectionId,
        put: impl FnOnce(&mut Outbox<Notice>) -> Queued,
    ) {
        let connection = connections.get_mut(&id);
        let Some(connection) = connection.filter(|connection| !connection.overflowed) else {
            return;
        };
        let was_empty = connection.outbox.is_empty();
        if put(&mut connection.outbox) == Queued::Overflowed {
            connection.overflowed = true;
            self.close.push(id);
        } else if was_empty && !connection.outbox.is_empty() {
            self.wake.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        history: History {
            messages_max: 1,
            bytes_max: 1,
            age_ms_max: 1,
        },
        overflow: Overflow::Disconnect,
        memory: Memory {
            keys_max: 1,
            age_ms_max: 1,
        },
        patience: Patience {
            leave_after_ms: 1,
            expires_after_ms: 1,
        },
        message_bytes_max: 1,
        subscribers_max: 2,
    };

    #[test]
    fn what_is_above_a_limit_or_of_nobody_is_refused_and_changes_nothing() {
        let mut hub = Hub::new([("a".into(), RULES)], || 1);
        let limits = ConnectionLimits {
            queue_bytes_max: 1_000,
            subscriptions_max: 1,
        };
        let name: Arc<str> = "a:b".into();
        let ids = [(); 3].map(|()| hub.open(limits));
        let mut subscribe = |id, name: &Arc<str>| {
            let answer = hub.subscribe(0, id, name, None, None);
            answer.map(drop).err()
        };
        for unknown in ["b:b", "a", ""] {
            let refused = subscribe(ids[0], &unknown.into());
            assert_eq!(refused, Some(Refusal::NoNamespace), "{unknown}");
        }
        assert_eq!(subscribe(ids[0], &name), None);
        assert_eq!(subscribe(ids[0], &name), Some(Refusal::Subscribed));
        let other = "a:c".into();
        let refused = subscribe(ids[0], &other);
        assert_eq!(refused, Some(Refusal::TooManySubscriptions(1)));
        assert_eq!(subscribe(ids[1], &name), None);
        let refused = subscribe(ids[2], &name);
        assert_eq!(refused, Some(Refusal::TooManySubscribers(2)));
        assert_eq!(subscribe(99, &name), Some(Refusal::NoConnection));
        hub.close(0, ids[0]);
        assert!(hub.subscribe(0, ids[2], &name, None, None).is_ok());
    }
}
