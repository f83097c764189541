//! The channels of one child, over all children of a fleet: those that it owns, and those of others that it mirrors for
//! its own connections. An event and the time come in; what the caller has to do comes out.
//!
//! The owner of a channel, by the directory, has its stream, its idempotency keys and its members. A child whose
//! connections want a channel of another mirrors it once for all of them. Where a channel moves, the new owner takes all
//! that over from the old one, and the stream goes on; where the old one is dead or out of reach, a new epoch begins and
//! everybody hears that something may be missing.

mod asked;
mod frames;
mod held;
mod moving;
mod offers;

use crate::{
    Answer, Child, ConnectionId, ConnectionLimits, Frame, Item, Position, QueueItem, Refusal,
    Rules, channel::Channel, connections::Connections, context::MeshContext, directory::Directory,
    links::Links, rules::Namespaces,
};
use bytes::Bytes;
use held::HeldFrames;
use offers::Offers;
use std::{
    collections::HashMap,
    hash::{BuildHasher, DefaultHasher, Hasher},
    mem,
    sync::Arc,
};

/// Effects that the caller has to carry out after an event, in any order, but before the next event.
#[derive(Debug)]
pub struct Effects<T> {
    /// Connections that have something to write, and had nothing before.
    pub wake: Vec<ConnectionId>,
    /// Connections that did not keep up, on a channel whose messages may not be missed.
    pub close: Vec<ConnectionId>,
    /// Answers to tickets; each ticket has one.
    pub answers: Vec<(T, Answer)>,
    /// Frames for links that are up, in order.
    pub send: Vec<(Child, Frame)>,
    /// Links that are wanted; said again for as long as one is.
    pub connect: Vec<Child>,
}

impl<T> Default for Effects<T> {
    fn default() -> Self {
        Self {
            wake: Vec::new(),
            close: Vec::new(),
            answers: Vec::new(),
            send: Vec::new(),
            connect: Vec::new(),
        }
    }
}

/// Hashes names that clients choose with a number that they do not know, and so that a test can repeat what happened.
struct Seed(u64);

impl BuildHasher for Seed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

/// All channels of one child. A channel is named `NAMESPACE:KEY`. `T` is a ticket for an answer, `R` what the caller itself writes
/// to connections. Time is in milliseconds, and never goes back.
pub struct Mesh<T, R = ()> {
    channels: HashMap<Arc<str>, Channel<T>, Seed>,
    context: MeshContext<T, R>,
    held: HeldFrames,
    offers: Offers,
}

impl<T: Copy, R> Mesh<T, R> {
    /// A mesh without channels, connections or a directory. `epochs` gives a number that was never given before, in no child,
    /// also not before a restart: 64 random bits.
    pub fn new(
        rules: impl IntoIterator<Item = (Box<str>, Rules)>,
        mut epochs: impl FnMut() -> u64 + Send + 'static,
        me: Child,
    ) -> Self {
        Self {
            channels: HashMap::with_hasher(Seed(epochs())),
            context: MeshContext {
                id: epochs(),
                rules: Namespaces::new(rules),
                epochs: Box::new(epochs),
                connections: Connections::new(),
                directory: Directory::new(me),
                links: Links::new(),
                answers: Vec::new(),
                ready: Vec::new(),
                numbers: 0,
                publishes_bytes: 0,
                pulled_bytes: 0,
            },
            held: HeldFrames::default(),
            offers: Offers::default(),
        }
    }

    /// Sets other rules, as from a new build. A channel whose namespace has none any more takes nothing new of this child, like
    /// one that never was; to end the subscriptions to it is the caller's. Until nobody would miss it, it stays by its old
    /// rules: children that have not heard of the new ones yet are served, and its stream goes on if its namespace comes
    /// back.
    pub fn set_rules(&mut self, rules: impl IntoIterator<Item = (Box<str>, Rules)>) {
        self.context.rules = Namespaces::new(rules);
        for (name, channel) in &mut self.channels {
            if let Ok(rules) = self.context.rules.of(name) {
                channel.set_rules(rules);
            }
        }
    }

    /// Channels and connections.
    pub fn counts(&self) -> (usize, usize) {
        (self.channels.len(), self.context.connections.len())
    }

    /// Bytes, about, of what waits for other children: for their answers, their channels, or their directories.
    pub fn waiting_bytes(&self) -> usize {
        self.context.publishes_bytes + self.context.pulled_bytes + self.held.bytes()
    }

    /// Adds a connection.
    pub fn open(&mut self, limits: ConnectionLimits) -> ConnectionId {
        self.context.connections.open(limits)
    }

    /// Removes a connection. What waited for it is dropped: the client asks again from its last position.
    pub fn close(&mut self, now_ms: u64, id: ConnectionId) -> Effects<T> {
        for (name, was) in self.context.connections.close(id) {
            if let Some(channel) = self.channels.get_mut(&name) {
                let refusal = Refusal::NoConnection;
                channel.unsubscribe(&mut self.context, now_ms, id, was, refusal);
            }
        }
        self.effects(now_ms)
    }

    /// Subscribes a connection to a channel: from now on, or from a position. `member` is the name that others see.
    /// The answer has to be put into the connection's queue, if at all, before the next event.
    pub fn subscribe(
        &mut self,
        now_ms: u64,
        ticket: T,
        id: ConnectionId,
        name: &Arc<str>,
        from: Option<Position>,
        member: Option<Arc<str>>,
    ) -> Effects<T> {
        let may = self.context.connections.may_subscribe(id, name);
        let subscribed = may.and_then(|()| {
            let (channel, context) = self.channel(now_ms, name)?;
            channel.subscribe(context, now_ms, (ticket, id), from, member)
        });
        if let Err(refusal) = subscribed {
            self.answer(ticket, Answer::Subscribed(Err(refusal)));
        }
        self.effects(now_ms)
    }

    /// Lets a subscription wait for its answer without a deadline, where nobody would ask again.
    pub fn wait_on(&mut self, id: ConnectionId, name: &str) {
        if let Some(channel) = self.channels.get_mut(name) {
            channel.wait_on(id);
        }
    }

    /// Ends a subscription. Returns whether there was one, answered or not.
    pub fn unsubscribe(
        &mut self,
        now_ms: u64,
        id: ConnectionId,
        name: &Arc<str>,
    ) -> (bool, Effects<T>) {
        let was = self.context.connections.unsubscribe(id, name);
        let known = was.is_some();
        if let (Some(was), Some(channel)) = (was, self.channels.get_mut(name)) {
            let refusal = Refusal::Unsubscribed;
            channel.unsubscribe(&mut self.context, now_ms, id, was, refusal);
        }
        (known, self.effects(now_ms))
    }

    /// Changes the name that others see of a subscription, or takes it away. The subscription goes on, and misses nothing.
    pub fn set_member(
        &mut self,
        now_ms: u64,
        id: ConnectionId,
        name: &Arc<str>,
        member: Option<Arc<str>>,
    ) -> Effects<T> {
        if let Some(channel) = self.channels.get_mut(name) {
            channel.set_member(&mut self.context, now_ms, id, member);
        }
        self.effects(now_ms)
    }

    /// Publishes. Once the answer is there, the message has its place in the owner's stream.
    pub fn publish(
        &mut self,
        now_ms: u64,
        ticket: T,
        name: &Arc<str>,
        data: Bytes,
        idempotency_key: Option<&str>,
    ) -> Effects<T> {
        match self.channel(now_ms, name) {
            Ok((channel, context)) => {
                channel.publish(context, now_ms, ticket, data, idempotency_key);
            }
            Err(refusal) => self.answer(ticket, Answer::Published(Err(refusal))),
        }
        self.effects(now_ms)
    }

    /// Asks who is on a channel, whether or not anybody here is.
    pub fn members(&mut self, now_ms: u64, ticket: T, name: &Arc<str>) -> Effects<T> {
        match self.channel(now_ms, name) {
            Ok((channel, context)) => channel.ask_members(context, now_ms, ticket),
            Err(refusal) => self.answer(ticket, Answer::Members(Err(refusal))),
        }
        self.effects(now_ms)
    }

    /// Puts the caller's own reply of so many bytes into a connection's queue.
    pub fn reply(&mut self, id: ConnectionId, reply: R, bytes: usize) -> Effects<T> {
        let connections = &mut self.context.connections;
        connections.queue_item(id, QueueItem::Reply(reply), bytes);
        self.take_effects()
    }

    /// The next thing to write to a connection.
    pub fn next(&mut self, id: ConnectionId) -> Option<Item<QueueItem<R>>> {
        self.context.connections.next(id)
    }

    /// Bytes that wait for a connection, and messages that were dropped for it.
    pub fn backlog(&self, id: ConnectionId) -> Option<(usize, u64)> {
        self.context.connections.backlog(id)
    }

    /// Bytes that a connection's queue has room for, [`crate::ITEM_BYTES`] for each item included.
    pub fn room(&self, id: ConnectionId) -> usize {
        self.context.connections.room(id)
    }

    /// To be called some times a second: gives up what waits for too long, tries again what did not work, tells who has
    /// left, and forgets what nobody can ask for any more.
    pub fn tick(&mut self, now_ms: u64) -> Effects<T> {
        self.context.directory.trim(now_ms);
        self.context.links.trim(now_ms);
        self.expire_held(now_ms);
        self.offer(now_ms);
        for channel in self.channels.values_mut() {
            channel.tick(&mut self.context, now_ms);
        }
        let effects = self.effects(now_ms);
        // A channel that others may still have is not dropped, or it would be asked for again, and waited for.
        let directory = &self.context.directory;
        self.channels.retain(|name, channel| {
            let known = channel.has_begun() || channel.is_owned() && directory.has_moved(name);
            !channel.is_idle() || known && !directory.before(name).is_empty()
        });
        effects
    }

    /// The channel of that name, made where it is new; none without rules for it.
    fn channel(
        &mut self,
        now_ms: u64,
        name: &Arc<str>,
    ) -> Result<(&mut Channel<T>, &mut MeshContext<T, R>), Refusal> {
        let rules = self.context.rules.of(name)?;
        if !self.channels.contains_key(name) {
            let channel = Channel::new(Arc::clone(name), rules);
            self.channels.insert(Arc::clone(name), channel);
            self.place_channel(now_ms, name);
        }
        let channel = self.channels.get_mut(name);
        Ok((channel.ok_or(Refusal::NoNamespace)?, &mut self.context))
    }

    fn answer(&mut self, ticket: T, answer: Answer) {
        self.context.answers.push((ticket, answer));
    }

    /// Ends a call: gives the answers that are due, and takes all effects.
    fn effects(&mut self, now_ms: u64) -> Effects<T> {
        for name in mem::take(&mut self.context.ready) {
            if let Some(channel) = self.channels.get_mut(&name) {
                channel.answer(&mut self.context, now_ms);
            }
        }
        self.take_effects()
    }

    fn take_effects(&mut self) -> Effects<T> {
        let MeshContext {
            connections,
            links,
            answers,
            ..
        } = &mut self.context;
        let woken = mem::take(&mut connections.woken);
        Effects {
            wake: woken.wake,
            close: woken.close,
            answers: mem::take(answers),
            send: mem::take(&mut links.send),
            connect: mem::take(&mut links.connect),
        }
    }
}
