//! Connections to servers: looks the name up, opens the socket, names the client (PROXY protocol), agrees on TLS.

use super::{
    context::OpenConnections,
    proxy_protocol,
    tls::{NodeCertificate, ServerTls, UpstreamTlsError, VersionOffer, host},
};
use http::uri::Authority;
use protoplex_http::Scheme;
use protoplex_http2::WindowBudget;
use protoplex_net::{Duplex, OwnedGaugeGuard, Socket};
use protoplex_wire::manifest::{ProxyProtocol, Upstream, UpstreamProtocol};
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

/// Most addresses of one name that are tried; each gets an equal part of the time.
const ADDRESSES_MAX: usize = 4;

/// Socket or TLS session to a server. Counts as an open connection until it is dropped.
pub(crate) struct ServerStream {
    transport: PlainOrTls,
    /// Counter of the bytes that came, for keep-alive.
    heard: Option<Arc<AtomicU64>>,
    _open: OwnedGaugeGuard,
}

enum PlainOrTls {
    /// No TLS.
    Tcp(Socket),
    /// TLS. Boxed, since its buffers are large and most connections are plain.
    Tls(Box<TlsStream<Socket>>),
}

/// Opens connections to the servers of one upstream.
pub(crate) struct Connector {
    protocol: UpstreamProtocol,
    tls: Option<ServerTls>,
    proxy_protocol: Option<ProxyProtocol>,
    timeout: Duration,
    connected: Arc<OpenConnections>,
}

impl Connector {
    /// Takes what the upstream says of connections. `node` is this node's certificate, for upstreams that want to see
    /// one.
    ///
    /// # Errors
    /// TLS as written cannot be had.
    pub(crate) fn new(
        upstream: &Upstream,
        node: Option<&NodeCertificate>,
        connected: &Arc<OpenConnections>,
    ) -> Result<Self, UpstreamTlsError> {
        Ok(Self {
            protocol: upstream.protocol,
            tls: ServerTls::new(upstream, node)?,
            proxy_protocol: upstream.proxy_protocol,
            timeout: Duration::from_millis(upstream.connect_timeout_ms),
            connected: Arc::clone(connected),
        })
    }

    /// Budget that the windows of all HTTP/2 connections share.
    pub(super) fn windows(&self) -> &Arc<WindowBudget> {
        &self.connected.windows
    }

    /// Opens a connection that is ready for the first request, within the upstream's connect timeout. `client` is named
    /// to the server where it wants that; `None` stands for this node.
    ///
    /// # Errors
    /// The server cannot be reached, is not who it should be, or took too long.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub(crate) async fn connect(
        &self,
        authority: &Authority,
        client: Option<SocketAddr>,
    ) -> io::Result<ServerStream> {
        self.connect_by(authority, client, VersionOffer::Any).await
    }

    /// Opens a connection of HTTP/1.1, whatever else the server could speak: for what HTTP/2 has not, such as
    /// `Upgrade`.
    ///
    /// # Errors
    /// The server cannot be reached, is not who it should be, or took too long.
    pub(crate) async fn connect_http1(
        &self,
        authority: &Authority,
        client: Option<SocketAddr>,
    ) -> io::Result<ServerStream> {
        self.connect_by(authority, client, VersionOffer::Http1Only)
            .await
    }

    async fn connect_by(
        &self,
        authority: &Authority,
        client: Option<SocketAddr>,
        offer: VersionOffer,
    ) -> io::Result<ServerStream> {
        let connecting = timeout(self.timeout, async {
            let mut stream = self.open(authority).await?;
            if let Some(version) = self.proxy_protocol {
                let header = proxy_protocol::header(version, client, stream.local_addr()?);
                stream.write_all(&header).await?;
            }
            let transport = match &self.tls {
                None => PlainOrTls::Tcp(stream),
                Some(tls) => {
                    let stream = tls.secure(authority, stream, offer).await?;
                    PlainOrTls::Tls(Box::new(stream))
                }
            };
            Ok(ServerStream {
                transport,
                heard: None,
                _open: OwnedGaugeGuard::new(&self.connected.open),
            })
        });
        connecting
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long")))
    }

    /// Longest time from the name's lookup to a connection that is ready.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether connections may speak HTTP/2.
    pub(crate) fn may_speak_http2(&self) -> bool {
        matches!(
            self.protocol,
            UpstreamProtocol::H2c | UpstreamProtocol::Https
        )
    }

    /// Scheme of requests on the connections: `https` where they are secured.
    pub(crate) fn scheme(&self) -> Scheme {
        match self.tls {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        }
    }

    /// Whether each connection is one client's, who was named on it: such a connection is not pooled.
    pub(crate) fn names_client(&self) -> bool {
        self.proxy_protocol.is_some()
    }

    /// Whether a connection speaks HTTP/2, by what the handshake agreed on or the manifest says.
    pub(crate) fn is_http2(&self, stream: &ServerStream) -> bool {
        match &stream.transport {
            PlainOrTls::Tcp(_) => self.protocol == UpstreamProtocol::H2c,
            PlainOrTls::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Tries one address of the name after another. An address that swallows everything must not take all the time.
    async fn open(&self, authority: &Authority) -> io::Result<Socket> {
        let port = authority
            .port_u16()
            .unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let found = tokio::net::lookup_host((host(authority), port)).await?;
        let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
        let part = self.timeout / addresses.len().max(1) as u32;
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match timeout(part, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Not fatal: the connection is slower.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream.into());
                }
                Ok(Err(error)) => failed = error,
                Err(_) => failed = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failed)
    }
}

impl ServerStream {
    /// Counts the bytes that come on the connection.
    pub(super) fn heard_by(mut self, heard: &Arc<AtomicU64>) -> Self {
        self.heard = Some(Arc::clone(heard));
        self
    }

    /// Makes the end of this connection a reset: a server takes a plain end for "nothing more is sent", and goes on
    /// with what it was asked.
    pub(super) fn reset_on_close(&self) {
        if let Some(socket) = self.socket() {
            // Fails for a socket that is closed. The server then works on for nobody, for a while.
            let _ = socket.reset_on_close();
        }
    }

    /// Whether nothing has come, the end included. TLS tickets that a server sends unasked are taken in, and count for
    /// nothing.
    pub(crate) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.transport {
            PlainOrTls::Tcp(tcp) => tcp.poll_read_ready(cx).is_pending(),
            PlainOrTls::Tls(tls) => {
                let mut byte = [0; 1];
                let mut buf = ReadBuf::new(&mut byte);
                Pin::new(tls).poll_read(cx, &mut buf).is_pending()
            }
        }
    }
}

impl Duplex for ServerStream {
    fn tcp(&self) -> Option<&Socket> {
        match &self.transport {
            PlainOrTls::Tcp(tcp) => Some(tcp),
            PlainOrTls::Tls(_) => None,
        }
    }

    fn socket(&self) -> Option<&Socket> {
        Some(match &self.transport {
            PlainOrTls::Tcp(tcp) => tcp,
            PlainOrTls::Tls(tls) => tls.get_ref().0,
        })
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (stream, before) = (self.get_mut(), buf.filled().len());
        ready!(match &mut stream.transport {
            PlainOrTls::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            PlainOrTls::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        })?;
        if let Some(heard) = &stream.heard {
            heard.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            PlainOrTls::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            PlainOrTls::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            PlainOrTls::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            PlainOrTls::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            PlainOrTls::Tcp(tcp) => tcp.is_write_vectored(),
            PlainOrTls::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            PlainOrTls::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            PlainOrTls::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            PlainOrTls::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            PlainOrTls::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
