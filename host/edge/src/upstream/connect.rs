//! Connections to servers.

use http::uri::Authority;
use protoplex_wire::manifest::Upstream;
use std::{
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A connection.
pub(crate) enum Stream {
    Tcp(TcpStream),
}

impl Stream {
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        let Self::Tcp(tcp) = self;
        Some(tcp)
    }
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Tcp(tcp) = self;
        tcp.poll_read_ready(cx)
    }
}

pub(super) struct Connector;

impl Connector {
    pub(super) fn new(_upstream: &Upstream) -> Result<Self, String> {
        Ok(Self)
    }
    pub(super) async fn connect(
        &self,
        authority: &Authority,
        _client: IpAddr,
    ) -> io::Result<Stream> {
        let stream = TcpStream::connect(authority.as_str()).await?;
        stream.set_nodelay(true)?;
        Ok(Stream::Tcp(stream))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self::Tcp(tcp) = &mut *self;
        Pin::new(tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self::Tcp(tcp) = &mut *self;
        Pin::new(tcp).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self::Tcp(tcp) = &mut *self;
        Pin::new(tcp).poll_write_vectored(cx, bufs)
    }
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Tcp(tcp) = &mut *self;
        Pin::new(tcp).poll_shutdown(cx)
    }
}
