//! The connections of one child and what waits for each. A connection's number leads to its place without a hash.

use crate::{Change, ConnectionLimits, Item, Message, Notice, Outbox, Overflow, Queued, Refusal};
use std::{collections::HashMap, sync::Arc};

/// A connection of this child; never used again.
pub type ConnectionId = u64;

/// An item of a connection's queue that is not a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueItem<R> {
    /// A notice of a channel.
    Notice(Notice),
    /// An item that the caller put there.
    Reply(R),
}

/// State of one connection's subscription to a channel.
pub(crate) struct Subscription {
    pub number: u32,
    pub member: Option<Arc<str>>,
    /// Index among the channel's subscribers; `None` while the subscription waits for its answer.
    pub index: Option<usize>,
}

struct Connection<R> {
    outbox: Outbox<QueueItem<R>>,
    limits: ConnectionLimits,
    /// The caller has been told to close it; nothing more is for it.
    overflowed: bool,
    subscriptions: HashMap<Arc<str>, Subscription>,
    subscriptions_ever: u32,
}

struct Place<R> {
    /// Connections that had this place before.
    generation: u32,
    connection: Option<Connection<R>>,
}

/// Connections that the caller has to wake or close.
#[derive(Debug, Default)]
pub(crate) struct Woken {
    pub wake: Vec<ConnectionId>,
    pub close: Vec<ConnectionId>,
}

/// All connections of this child.
pub(crate) struct Connections<R> {
    places: Vec<Place<R>>,
    free: Vec<usize>,
    pub woken: Woken,
}

fn place(id: ConnectionId) -> (usize, u32) {
    let [index, generation] = [id as u32, (id >> 32) as u32];
    (index as usize, generation)
}

impl<R> Connections<R> {
    pub fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            woken: Woken::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub fn open(&mut self, limits: ConnectionLimits) -> ConnectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place {
                generation: 0,
                connection: None,
            });
            self.places.len() - 1
        });
        let place = &mut self.places[index];
        place.generation = place.generation.wrapping_add(1);
        place.connection = Some(Connection {
            outbox: Outbox::new(limits.queue_bytes_max),
            limits,
            overflowed: false,
            subscriptions: HashMap::new(),
            subscriptions_ever: 0,
        });
        u64::from(place.generation) << 32 | index as u64
    }

    /// Closes a connection. Returns its subscriptions, oldest first.
    pub fn close(&mut self, id: ConnectionId) -> Vec<(Arc<str>, Subscription)> {
        if self.get(id).is_none() {
            return Vec::new();
        }
        let (index, _) = place(id);
        self.free.push(index);
        let connection = self.places[index].connection.take();
        let subscriptions = connection.map(|connection| connection.subscriptions);
        let mut subscriptions: Vec<_> = subscriptions.into_iter().flatten().collect();
        subscriptions.sort_unstable_by_key(|(_, subscription)| subscription.number);
        subscriptions
    }

    /// Checks that a connection may subscribe to one more channel.
    pub fn may_subscribe(&self, id: ConnectionId, channel: &str) -> Result<(), Refusal> {
        let connection = self.get(id).ok_or(Refusal::NoConnection)?;
        if connection.subscriptions.contains_key(channel) {
            return Err(Refusal::Subscribed);
        }
        let most = connection.limits.subscriptions_max;
        if connection.subscriptions.len() >= most {
            return Err(Refusal::TooManySubscriptions(most));
        }
        Ok(())
    }

    /// Notes a subscription, which waits for its answer from now on.
    pub fn subscribe(&mut self, id: ConnectionId, channel: &Arc<str>, member: Option<Arc<str>>) {
        if let Some(connection) = self.get_mut(id) {
            connection.subscriptions_ever += 1;
            let subscription = Subscription {
                number: connection.subscriptions_ever,
                member,
                index: None,
            };
            let channel = Arc::clone(channel);
            connection.subscriptions.insert(channel, subscription);
        }
    }

    pub fn unsubscribe(&mut self, id: ConnectionId, channel: &str) -> Option<Subscription> {
        self.get_mut(id)?.subscriptions.remove(channel)
    }

    pub fn subscription(&mut self, id: ConnectionId, channel: &str) -> Option<&mut Subscription> {
        self.get_mut(id)?.subscriptions.get_mut(channel)
    }

    pub fn channel_of(&self, id: ConnectionId, number: u32) -> Option<&Arc<str>> {
        let mut all = self.get(id)?.subscriptions.iter();
        all.find_map(|(name, known)| (known.number == number).then_some(name))
    }

    /// The channels of a connection's subscriptions, those that have no answer yet among them.
    pub fn channels(&self, id: ConnectionId) -> impl Iterator<Item = &Arc<str>> {
        let connection = self.get(id);
        connection
            .into_iter()
            .flat_map(|connection| connection.subscriptions.keys())
    }

    pub fn is_subscribed(&self, id: ConnectionId, channel: &str) -> bool {
        let connection = self.get(id);
        connection.is_some_and(|known| known.subscriptions.contains_key(channel))
    }

    pub fn next(&mut self, id: ConnectionId) -> Option<Item<QueueItem<R>>> {
        self.get_mut(id)?.outbox.pop()
    }

    pub fn backlog(&self, id: ConnectionId) -> Option<(usize, u64)> {
        let outbox = &self.get(id)?.outbox;
        Some((outbox.bytes(), outbox.dropped()))
    }

    pub fn room(&self, id: ConnectionId) -> usize {
        let known = self.get(id).filter(|known| !known.overflowed);
        known.map_or(0, |known| {
            let max = known.limits.queue_bytes_max;
            max.saturating_sub(known.outbox.bytes())
        })
    }

    pub fn message(
        &mut self,
        (id, subscription): (ConnectionId, u32),
        message: &Arc<Message>,
        overflow: Overflow,
    ) {
        self.queue(id, |outbox| outbox.message(subscription, message, overflow));
    }

    /// Queues a notice, and closes a connection that has no room for it: a list of members, or a stream, with holes in
    /// it is worse than none.
    pub fn notice(&mut self, id: ConnectionId, notice: Notice) {
        let bytes = match &notice {
            Notice::Presence(_, Change::Joined(member) | Change::Left(member)) => member.len(),
            Notice::Reset(..) => 0,
        };
        self.queue_item(id, QueueItem::Notice(notice), bytes);
    }

    pub fn queue_item(&mut self, id: ConnectionId, said: QueueItem<R>, bytes: usize) {
        self.queue(id, |outbox| match outbox.reply(said, bytes) {
            true => Queued::Yes,
            false => Queued::Overflowed,
        });
    }

    /// Puts something into a connection's queue, and notes what follows from that.
    fn queue(&mut self, id: ConnectionId, put: impl FnOnce(&mut Outbox<QueueItem<R>>) -> Queued) {
        let (index, generation) = place(id);
        let place = self.places.get_mut(index);
        let Some(connection) = place
            .filter(|place| place.generation == generation)
            .and_then(|place| place.connection.as_mut())
            .filter(|connection| !connection.overflowed)
        else {
            return;
        };
        let was_empty = connection.outbox.is_empty();
        if put(&mut connection.outbox) == Queued::Overflowed {
            connection.overflowed = true;
            self.woken.close.push(id);
        } else if was_empty && !connection.outbox.is_empty() {
            self.woken.wake.push(id);
        }
    }

    fn get(&self, id: ConnectionId) -> Option<&Connection<R>> {
        let (index, generation) = place(id);
        let place = self.places.get(index)?;
        let same = place.generation == generation;
        place.connection.as_ref().filter(|_| same)
    }

    fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection<R>> {
        let (index, generation) = place(id);
        let place = self.places.get_mut(index)?;
        let same = place.generation == generation;
        place.connection.as_mut().filter(|_| same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_of_one_connection_for_ever() {
        let limits = ConnectionLimits {
            queue_bytes_max: 1_000,
            subscriptions_max: 1,
        };
        let mut connections = Connections::<()>::new();
        let first = connections.open(limits);
        connections.close(first);
        connections.close(first);
        let second = connections.open(limits);
        assert_ne!(first, second);
        connections.queue_item(first, QueueItem::Reply(()), 1);
        assert!(connections.next(second).is_none());
        assert_eq!(connections.backlog(first), None);
        assert_eq!(connections.len(), 1);
        assert_eq!(
            connections.may_subscribe(first, "a:b"),
            Err(Refusal::NoConnection)
        );
    }
}
