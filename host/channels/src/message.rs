//! A message, and its forms on the wire, each made once for all who receive it.

use crate::Position;
use bytes::Bytes;
use std::sync::OnceLock;

/// Form in which a message goes out. Transports that frame alike share a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A WebSocket frame.
    Frame,
    /// A WebSocket frame, deflated without context.
    Deflated,
    /// An event of `text/event-stream`.
    Event,
    /// A WebSocket frame of the content alone.
    Bare,
}

/// Variants of [`Form`].
const FORMS: usize = 4;

/// A published message and its position. Shared by the history and every queue that it waits in.
#[derive(Debug)]
pub struct Message {
    /// The position after it.
    pub position: Position,
    /// The content, as the publisher sent it.
    pub data: Bytes,
    forms: [OnceLock<Bytes>; FORMS],
}

impl Message {
    /// A message of that content.
    pub fn new(position: Position, data: Bytes) -> Self {
        Self {
            position,
            data,
            forms: [const { OnceLock::new() }; FORMS],
        }
    }

    /// The bytes of a form, if it was made.
    pub fn made(&self, form: Form) -> Option<Bytes> {
        self.forms[form as usize].get().cloned()
    }

    /// The bytes of a form; `make` is called the first time only, whoever asks.
    pub fn form(&self, form: Form, make: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.forms[form as usize].get_or_init(|| make(self)).clone()
    }
}
