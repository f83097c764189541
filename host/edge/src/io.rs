//! What a connection reads from and writes to.

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// One end of a connection. A plain socket is known as such, so that bytes can be moved without being read.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The socket, if nothing stands between it and the bytes.
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }

    /// The socket underneath, whatever stands between it and the bytes.
    fn socket(&self) -> Option<&TcpStream> {
        self.tcp()
    }
}

impl Io for TcpStream {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

/// Boxed: a TLS session is more than a kilobyte, and moves from hand to hand.
impl Io for Box<TlsStream<TcpStream>> {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self.get_ref().0)
    }
}
