//! The functions that live guests import beside those of edge guests. They only write down what is asked for: the caller
//! does it when the call has returned.

use crate::{
    bindings::live_stateful::protoplex::live::{
        channels, connection,
        types::{self, Fault, MessageResult},
    },
    edge::host::EdgeState,
};
use protoplex_wire::manifest::Limits;

/// Effects that one call may ask for.
pub const EFFECTS_MAX: usize = 1_000;
/// Bytes of a name: of a channel, a user, an idempotency key, or a reason.
pub const NAME_BYTES_MAX: usize = 255;
/// Closing reasons travel in a control frame (RFC 6455, section 5.5).
const REASON_BYTES_MAX: usize = 123;

/// An effect that a call asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Sets the name that others see of the connection.
    User(String),
    /// Text to the connection.
    Text(String),
    /// Bytes to the connection.
    Binary(Vec<u8>),
    /// The end of the connection.
    Disconnect(u16, String),
    /// Messages of a channel, and whether its user is shown there.
    Subscribe(String, bool),
    /// No more of them.
    Unsubscribe(String),
    /// Whether its user is shown.
    Presence(String, bool),
    /// A message to all subscribers of a channel, with its idempotency key.
    Publish(String, Vec<u8>, Option<String>),
}

/// Data of a store that runs a live guest.
pub(crate) struct LiveState {
    pub(crate) edge: EdgeState,
    pub(super) effects: Vec<Effect>,
    effect_bytes: u64,
    effect_bytes_max: u64,
}

impl LiveState {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            edge: EdgeState::new(limits),
            effects: Vec::new(),
            effect_bytes: 0,
            effect_bytes_max: limits.response_bytes_max,
        }
    }

    /// Before a call.
    pub(super) fn begin(&mut self) {
        self.effects.clear();
        self.effect_bytes = 0;
    }

    fn push(&mut self, bytes: usize, effect: Effect) -> Result<(), Fault> {
        self.effect_bytes += bytes as u64;
        if self.effects.len() >= EFFECTS_MAX {
            return Err(Fault::TooMany);
        }
        if self.effect_bytes > self.effect_bytes_max {
            return Err(Fault::TooLarge);
        }
        self.effects.push(effect);
        Ok(())
    }

    /// The largest message of a channel that the handler may use.
    fn granted(&self, channel: &str) -> Result<u64, Fault> {
        let (namespace, key) = channel.split_once(':').ok_or(Fault::Forbidden)?;
        let context = self.edge.context.as_ref().ok_or(Fault::Forbidden)?;
        let granted = context.channels.get(namespace).ok_or(Fault::Forbidden)?;
        match key.is_empty() || channel.len() > NAME_BYTES_MAX {
            true => Err(Fault::Invalid),
            false => Ok(*granted),
        }
    }

    fn named(
        &mut self,
        channel: String,
        effect: impl FnOnce(String) -> Effect,
    ) -> Result<(), Fault> {
        self.granted(&channel)?;
        self.push(channel.len(), effect(channel))
    }
}

impl types::Host for LiveState {}

impl connection::Host for LiveState {
    fn set_user(&mut self, user: String) -> Result<(), Fault> {
        match user.len() {
            1..=NAME_BYTES_MAX => self.push(user.len(), Effect::User(user)),
            _ => Err(Fault::Invalid),
        }
    }

    fn send(&mut self, message: MessageResult) -> Result<(), Fault> {
        match message {
            MessageResult::Text(text) => self.push(text.len(), Effect::Text(text)),
            MessageResult::Binary(bytes) => self.push(bytes.len(), Effect::Binary(bytes)),
        }
    }

    fn disconnect(&mut self, code: u16, reason: String) -> Result<(), Fault> {
        match code {
            1000 | 1008 | 4000..=4999 if reason.len() <= REASON_BYTES_MAX => {
                self.push(reason.len(), Effect::Disconnect(code, reason))
            }
            _ => Err(Fault::Invalid),
        }
    }
}

impl channels::Host for LiveState {
    fn subscribe(&mut self, channel: String, present: bool) -> Result<(), Fault> {
        self.named(channel, |channel| Effect::Subscribe(channel, present))
    }

    fn unsubscribe(&mut self, channel: String) -> Result<(), Fault> {
        self.named(channel, Effect::Unsubscribe)
    }

    fn set_presence(&mut self, channel: String, present: bool) -> Result<(), Fault> {
        self.named(channel, |channel| Effect::Presence(channel, present))
    }

    fn publish(
        &mut self,
        channel: String,
        data: Vec<u8>,
        idempotency_key: Option<String>,
    ) -> Result<(), Fault> {
        let max = self.granted(&channel)?;
        let key_bytes = idempotency_key.as_ref().map_or(0, String::len);
        if key_bytes > NAME_BYTES_MAX {
            return Err(Fault::Invalid);
        }
        if data.len() as u64 > max {
            return Err(Fault::TooLarge);
        }
        let bytes = channel.len() + data.len() + key_bytes;
        self.push(bytes, Effect::Publish(channel, data, idempotency_key))
    }
}
