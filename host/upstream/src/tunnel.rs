//! Server's end of a tunnel, as the client's connection takes it over.

use bytes::Bytes;
use protoplex_http::Tunnel;
use protoplex_net::{Duplex, OwnedGaugeGuard, Socket};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Connection to a server, or a stream of one, that counts as open until it is dropped.
struct CountedEnd<IO> {
    io: IO,
    _counted: OwnedGaugeGuard,
}

/// Makes the server's end of a tunnel. The server sent `early` already; `counted` counts the connection until it is
/// over.
pub(super) fn tunnel(io: impl Duplex, early: Bytes, counted: OwnedGaugeGuard) -> Tunnel {
    let end = CountedEnd {
        io,
        _counted: counted,
    };
    Tunnel {
        io: Box::new(end),
        early,
    }
}

impl<IO: Duplex> Duplex for CountedEnd<IO> {
    fn tcp(&self) -> Option<&Socket> {
        self.io.tcp()
    }

    fn socket(&self) -> Option<&Socket> {
        self.io.socket()
    }
}

impl<IO: Duplex> AsyncRead for CountedEnd<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: Duplex> AsyncWrite for CountedEnd<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
