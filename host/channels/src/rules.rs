//! Rules for channels and connections, and the answers that follow from them.

use crate::{Change, History, Memory, Message, Overflow, Position, PresenceDelays};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};

/// Rules for the channels of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Messages that may be asked for again.
    pub history: History,
    /// Policy for messages to connections that do not keep up.
    pub overflow: Overflow,
    /// Time in which publishers may repeat themselves.
    pub memory: Memory,
    /// Delays by which presence is debounced.
    pub presence: PresenceDelays,
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// Subscribers of one channel in this child.
    pub subscribers_max: usize,
}

/// Rules by namespace.
pub(crate) struct Namespaces(HashMap<Box<str>, Rules>);

impl Namespaces {
    pub fn new(rules: impl IntoIterator<Item = (Box<str>, Rules)>) -> Self {
        Self(rules.into_iter().collect())
    }

    /// The rules for a channel, which is named `NAMESPACE:KEY`.
    pub fn of(&self, channel: &str) -> Result<Rules, Refusal> {
        let (namespace, _) = channel.split_once(':').ok_or(Refusal::NoNamespace)?;
        let rules = self.0.get(namespace).copied();
        rules.ok_or(Refusal::NoNamespace)
    }
}

/// Limits on what a connection costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Bytes that wait for it.
    pub queue_bytes_max: usize,
    /// Channels.
    pub subscriptions_max: usize,
}

/// Why something was refused. Nothing changed, but after [`Refusal::Unavailable`] that is not certain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// There is no such connection (any more).
    NoConnection,
    /// The channel's namespace has no rules.
    NoNamespace,
    /// The connection is subscribed already.
    Subscribed,
    /// The subscription was ended before there was an answer.
    Unsubscribed,
    /// The connection is at [`ConnectionLimits::subscriptions_max`].
    TooManySubscriptions(usize),
    /// The channel is at [`Rules::subscribers_max`].
    TooManySubscribers(usize),
    /// The message is above [`Rules::message_bytes_max`].
    TooLarge {
        /// Bytes that came.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The channel's owner did not answer in time, or too much waits for it. A message may have been published, or may
    /// still be: only a publisher with an idempotency key can repeat it without doubling it.
    Unavailable,
}

/// The answer to a subscription.
#[derive(Debug)]
pub struct Subscribed {
    /// The channel, in messages of this connection.
    pub subscription: u32,
    /// Position of the stream after `missed`.
    pub position: Position,
    /// Whether nothing lies between the position that was named and `missed`; `None` where none was named.
    pub recovered: Option<bool>,
    /// Messages that came since, oldest first.
    pub missed: Vec<Arc<Message>>,
    /// Members of the channel.
    pub members: Vec<Arc<str>>,
}

/// The answer to a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Position of the message.
    pub position: Position,
    /// Whether the key had been used before: then nothing was published now.
    pub repeated: bool,
}

/// The answer to a ticket.
#[derive(Debug)]
pub enum Answer {
    /// The answer to a subscription. Its messages are queued after the call that gave this answer, never before.
    Subscribed(Result<Subscribed, Refusal>),
    /// The answer to a publication.
    Published(Result<Published, Refusal>),
    /// Members of a channel, in order.
    Members(Result<Vec<Arc<str>>, Refusal>),
}

/// A notice that is written to a connection besides messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Somebody came to, or left, the channel of that subscription.
    Presence(u32, Change<Arc<str>>),
    /// The stream of that subscription goes on after this position, and what came before it may be missing: the client
    /// has to load its state anew.
    Reset(u32, Position),
}
