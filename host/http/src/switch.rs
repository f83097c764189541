//! A connection that goes on with another protocol, in the hands of whoever answered its request.

use bytes::Bytes;
use std::{future::Future, pin::Pin};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// The task that goes on when the reply is out. The connection counts as open until it is done.
pub type Onward = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One end of a connection, whatever carries it. A plain socket is known as such, so that bytes can be moved without
/// being read.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The socket, if nothing stands between it and the bytes.
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }

    /// The socket underneath, whatever stands between it and the bytes.
    fn socket(&self) -> Option<&TcpStream> {
        self.tcp()
    }
}

impl Duplex for TcpStream {
    #[inline]
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl Duplex for Box<dyn Duplex> {
    fn tcp(&self) -> Option<&TcpStream> {
        (**self).tcp()
    }

    fn socket(&self) -> Option<&TcpStream> {
        (**self).socket()
    }
}

/// The connection, behind its answer.
pub struct Switched {
    /// The connection; no bytes of HTTP are read from it or written to it from here on.
    pub io: Box<dyn Duplex>,
    /// Bytes that the client sent already.
    pub early: Bytes,
    /// Ready when the connection has to go, at a moment of its own where many have to.
    pub leave: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Takes the connection over.
pub struct Switch(Box<dyn FnOnce(Switched) -> Onward + Send>);

impl Switch {
    /// Calls `onward` when the answer is out.
    pub fn new<F>(onward: impl FnOnce(Switched) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Box::new(|switched| Box::pin(onward(switched))))
    }

    /// Starts the task that goes on when the reply is out.
    pub fn onward(self, switched: Switched) -> Onward {
        (self.0)(switched)
    }
}
