//! A connection that goes on with another protocol, in the hands of whoever answered its request.

use bytes::Bytes;
use protoplex_net::Duplex;
use std::{future::Future, pin::Pin};

/// Task of a connection that goes on with another protocol, once the reply is out. The connection counts as open until
/// it is done.
pub type SwitchTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A client's connection behind the reply that switches it to another protocol.
pub struct Switched {
    /// Byte stream of the connection; no bytes of HTTP are read from it or written to it from here on.
    pub io: Box<dyn Duplex>,
    /// Bytes that the client sent already.
    pub early: Bytes,
    /// Ready when the connection has to close, at a moment of its own where many have to.
    pub leave: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Takes a client's connection over, once the reply is out.
pub struct Switch(Box<dyn FnOnce(Switched) -> SwitchTask + Send>);

impl Switch {
    /// Makes a switch that calls `onward` with the connection when the reply is out.
    pub fn new<F>(onward: impl FnOnce(Switched) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Box::new(|switched| Box::pin(onward(switched))))
    }

    /// Calls what takes the connection over, and returns its task.
    pub fn onward(self, switched: Switched) -> SwitchTask {
        (self.0)(switched)
    }
}
