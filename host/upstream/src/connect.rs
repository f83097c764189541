//! Connections to servers: the name is looked up, the socket opened, the visitor announced, TLS agreed on.

use super::{
    means::Connected,
    proxy_protocol,
    tls::{NodeCertificate, Tls, UpstreamTlsError, host},
};
use http::uri::Authority;
use protoplex_http::Duplex;
use protoplex_http2::WindowBudget;
use protoplex_net::OwnedGaugeGuard;
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

/// Addresses of one name that are tried: each gets its part of the time.
const ADDRESSES_MAX: usize = 4;

/// A connection, counted as long as it lives.
pub(crate) struct Stream {
    transport: Transport,
    /// Where what comes is counted, if somebody looks.
    heard: Option<Arc<AtomicU64>>,
    _open: OwnedGaugeGuard,
}

enum Transport {
    /// Plain.
    Tcp(TcpStream),
    /// Boxed, since its buffers are large and most connections are plain.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Means to connect to one upstream.
pub(crate) struct Connector {
    protocol: UpstreamProtocol,
    tls: Option<Tls>,
    proxy_protocol: Option<ProxyProtocol>,
    timeout: Duration,
    connected: Arc<Connected>,
}

impl Connector {
    /// `node` is who we are, for upstreams that want to know.
    ///
    /// # Errors
    /// TLS as written cannot be had.
    pub(crate) fn new(
        upstream: &Upstream,
        node: Option<&NodeCertificate>,
        connected: &Arc<Connected>,
    ) -> Result<Self, UpstreamTlsError> {
        Ok(Self {
            protocol: upstream.protocol,
            tls: Tls::new(upstream, node)?,
            proxy_protocol: upstream.proxy_protocol,
            timeout: Duration::from_millis(upstream.connect_timeout_ms),
            connected: Arc::clone(connected),
        })
    }

    /// Budget that the windows of all connections of HTTP/2 share.
    pub(super) fn windows(&self) -> &Arc<WindowBudget> {
        &self.connected.windows
    }

    /// A connection that is ready for the first request, within the upstream's connect timeout. `visitor` is named to
    /// the server where it wants that; none is ourselves.
    ///
    /// # Errors
    /// It cannot be reached, is not who it should be, or took too long.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub(crate) async fn connect(
        &self,
        authority: &Authority,
        visitor: Option<SocketAddr>,
    ) -> io::Result<Stream> {
        self.connect_as(authority, visitor, false).await
    }

    /// Connects by HTTP/1.1 whatever else the server could speak: for what HTTP/2 has not, such as `Upgrade`.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn connect_http1(
        &self,
        authority: &Authority,
        visitor: Option<SocketAddr>,
    ) -> io::Result<Stream> {
        self.connect_as(authority, visitor, true).await
    }

    async fn connect_as(
        &self,
        authority: &Authority,
        visitor: Option<SocketAddr>,
        is_http1: bool,
    ) -> io::Result<Stream> {
        let connecting = timeout(self.timeout, async {
            let mut stream = self.open(authority).await?;
            if let Some(version) = self.proxy_protocol {
                let header = proxy_protocol::header(version, visitor, stream.local_addr()?);
                stream.write_all(&header).await?;
            }
            let transport = match &self.tls {
                None => Transport::Tcp(stream),
                Some(tls) => {
                    let stream = tls.secure(authority, stream, is_http1).await?;
                    Transport::Tls(Box::new(stream))
                }
            };
            Ok(Stream {
                transport,
                heard: None,
                _open: OwnedGaugeGuard::new(&self.connected.open),
            })
        });
        connecting
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long")))
    }

    /// Time that a connection may take until it is ready.
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

    /// Whether connections are secured.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether connections belong to one visitor each, who was named on them.
    pub(crate) fn names_visitors(&self) -> bool {
        self.proxy_protocol.is_some()
    }

    /// Whether a connection speaks HTTP/2: agreed in the handshake, or known before.
    pub(crate) fn is_http2(&self, stream: &Stream) -> bool {
        match &stream.transport {
            Transport::Tcp(_) => self.protocol == UpstreamProtocol::H2c,
            Transport::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// One address of the name after another; one that swallows everything must not take all the time.
    async fn open(&self, authority: &Authority) -> io::Result<TcpStream> {
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
                    return Ok(stream);
                }
                Ok(Err(error)) => failed = error,
                Err(_) => failed = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failed)
    }
}

impl Stream {
    /// Counts the bytes that come on the connection.
    pub(super) fn heard_by(mut self, heard: &Arc<AtomicU64>) -> Self {
        self.heard = Some(Arc::clone(heard));
        self
    }

    /// Makes the end of this connection a reset. A server takes a plain end for "nothing more is sent" and goes on with
    /// what it was asked.
    pub(super) fn reset_on_close(&self) {
        if let Some(socket) = self.socket() {
            // Without it the server is told late, and has worked for nobody.
            let _ = socket.set_zero_linger();
        }
    }

    /// Whether nothing has come, the end included. TLS may send tickets unasked: they are taken in, and are nothing.
    pub(crate) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.transport {
            Transport::Tcp(tcp) => tcp.poll_read_ready(cx).is_pending(),
            Transport::Tls(tls) => {
                let mut byte = [0; 1];
                let mut buf = ReadBuf::new(&mut byte);
                Pin::new(tls).poll_read(cx, &mut buf).is_pending()
            }
        }
    }
}

impl Duplex for Stream {
    fn tcp(&self) -> Option<&TcpStream> {
        match &self.transport {
            Transport::Tcp(tcp) => Some(tcp),
            Transport::Tls(_) => None,
        }
    }

    fn socket(&self) -> Option<&TcpStream> {
        Some(match &self.transport {
            Transport::Tcp(tcp) => tcp,
            Transport::Tls(tls) => tls.get_ref().0,
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (stream, before) = (self.get_mut(), buf.filled().len());
        ready!(match &mut stream.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        })?;
        if let Some(heard) = &stream.heard {
            heard.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(tcp) => tcp.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
