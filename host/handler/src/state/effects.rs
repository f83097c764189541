//! Effects that a live guest asks for in one call, up to what a call may ask for.

use crate::bindings::live_stateful::protoplex::live::types::Fault;
use protoplex_wire::manifest::Limits;

/// Effects that one call may ask for.
pub const EFFECTS_MAX: usize = 1_000;
/// Bytes of a name: of a channel, a user, an idempotency key, or a reason.
pub const NAME_BYTES_MAX: usize = 255;

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
    /// The end of a subscription to a channel.
    Unsubscribe(String),
    /// Whether its user is shown.
    Presence(String, bool),
    /// A message to all subscribers of a channel, with its idempotency key.
    Publish(String, Vec<u8>, Option<String>),
}

/// The effects of the call that goes on, in order.
pub(crate) struct Effects {
    list: Vec<Effect>,
    bytes: u64,
    bytes_max: u64,
}

impl Effects {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            list: Vec::new(),
            bytes: 0,
            bytes_max: limits.response_bytes_max,
        }
    }

    /// Forgets those of the call before.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.bytes = 0;
    }

    /// Those that the call asked for.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.list)
    }

    /// Adds one, of so many bytes.
    pub(crate) fn push(&mut self, bytes: usize, effect: Effect) -> Result<(), Fault> {
        self.bytes += bytes as u64;
        if self.list.len() >= EFFECTS_MAX {
            return Err(Fault::TooMany);
        }
        if self.bytes > self.bytes_max {
            return Err(Fault::TooLarge);
        }
        self.list.push(effect);
        Ok(())
    }
}
