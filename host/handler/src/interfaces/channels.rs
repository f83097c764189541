//! `protoplex:live/channels`: what a live guest asks of channels that its grants name. It is only written down: the caller
//! does it when the call has returned.

use crate::{
    bindings::live_stateful::protoplex::live::{channels::Host, types::Fault},
    state::{Effect, LiveState, NAME_BYTES_MAX},
};

impl LiveState {
    /// Bytes of the largest message of a channel that the handler may use.
    fn granted(&self, channel: &str) -> Result<u64, Fault> {
        let (namespace, key) = channel.split_once(':').ok_or(Fault::Forbidden)?;
        let context = self.host.context.as_ref().ok_or(Fault::Forbidden)?;
        let granted = context.channels.get(namespace).ok_or(Fault::Forbidden)?;
        match key.is_empty() || channel.len() > NAME_BYTES_MAX {
            true => Err(Fault::Invalid),
            false => Ok(*granted),
        }
    }

    fn push_for(
        &mut self,
        channel: String,
        effect: impl FnOnce(String) -> Effect,
    ) -> Result<(), Fault> {
        self.granted(&channel)?;
        self.effects.push(channel.len(), effect(channel))
    }
}

impl Host for LiveState {
    fn subscribe(&mut self, channel: String, present: bool) -> Result<(), Fault> {
        self.push_for(channel, |channel| Effect::Subscribe(channel, present))
    }

    fn unsubscribe(&mut self, channel: String) -> Result<(), Fault> {
        self.push_for(channel, Effect::Unsubscribe)
    }

    fn set_presence(&mut self, channel: String, present: bool) -> Result<(), Fault> {
        self.push_for(channel, |channel| Effect::Presence(channel, present))
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
        self.effects
            .push(bytes, Effect::Publish(channel, data, idempotency_key))
    }
}
