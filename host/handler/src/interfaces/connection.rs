//! `protoplex:live/connection`: what a live guest asks for its connection. It is only written down: the caller does it when
//! the call has returned.

use crate::{
    bindings::live_stateful::protoplex::live::{
        connection::Host,
        types::{Fault, MessageResult},
    },
    state::{Effect, LiveState, NAME_BYTES_MAX},
};

/// Closing reasons travel in a control frame (RFC 6455, section 5.5).
const REASON_BYTES_MAX: usize = 123;

impl Host for LiveState {
    fn set_user(&mut self, user: String) -> Result<(), Fault> {
        match user.len() {
            1..=NAME_BYTES_MAX => self.effects.push(user.len(), Effect::User(user)),
            _ => Err(Fault::Invalid),
        }
    }

    fn send(&mut self, message: MessageResult) -> Result<(), Fault> {
        match message {
            MessageResult::Text(text) => self.effects.push(text.len(), Effect::Text(text)),
            MessageResult::Binary(bytes) => self.effects.push(bytes.len(), Effect::Binary(bytes)),
        }
    }

    fn disconnect(&mut self, code: u16, reason: String) -> Result<(), Fault> {
        match code {
            1000 | 1008 | 4000..=4999 if reason.len() <= REASON_BYTES_MAX => self
                .effects
                .push(reason.len(), Effect::Disconnect(code, reason)),
            _ => Err(Fault::Invalid),
        }
    }
}
