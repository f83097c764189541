//! One end of a connection, whatever carries it.

use crate::Socket;
use tokio::io::{AsyncRead, AsyncWrite};

/// One end of a connection, whatever carries it. A plain socket is known as such, so that bytes can be moved without
/// being read.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Socket, if nothing stands between it and the bytes.
    fn tcp(&self) -> Option<&Socket> {
        None
    }

    /// Socket underneath, whatever stands between it and the bytes.
    fn socket(&self) -> Option<&Socket> {
        self.tcp()
    }
}

impl Duplex for Socket {
    #[inline]
    fn tcp(&self) -> Option<&Socket> {
        Some(self)
    }
}

impl Duplex for Box<dyn Duplex> {
    fn tcp(&self) -> Option<&Socket> {
        (**self).tcp()
    }

    fn socket(&self) -> Option<&Socket> {
        (**self).socket()
    }
}
