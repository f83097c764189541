//! The stream that a connection reads from and writes to.

use protoplex_http::Duplex;
use rustix::net::sockopt;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
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

/// A client's connection by TLS. Boxed: a TLS session is more than a kilobyte, and moves from hand to hand.
pub(crate) struct Secured(pub(crate) Box<TlsStream<TcpStream>>);

impl Duplex for Secured {
    #[inline]
    fn socket(&self) -> Option<&TcpStream> {
        Some(self.0.get_ref().0)
    }
}

impl AsyncRead for Secured {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Secured {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    #[inline]
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
