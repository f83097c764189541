//! The stream that a connection reads from and writes to.

use rustix::net::sockopt;
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// A silent peer is probed after this: well below the minutes for which middleboxes remember a connection.
const PROBE_AFTER: Duration = Duration::from_secs(30);
/// Time between two probes without an answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Probes without an answer after which a peer is taken for dead, so that one lost packet ends nothing.
const PROBES_MAX: u32 = 3;

/// Lets the kernel find out that the machine at the other end is gone, where nothing else would for a long time.
pub(crate) fn watch(socket: &TcpStream) {
    // A socket that does not know these is watched by the limits alone.
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, PROBE_AFTER);
    let _ = sockopt::set_tcp_keepintvl(socket, PROBE_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(socket, PROBES_MAX);
}

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
