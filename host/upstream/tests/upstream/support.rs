//! A server that does as a closure says, and requests to it.

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use protoplex_http::{Body, Reply, ReplyBody, StreamError};
use protoplex_net::batch_sends;
use protoplex_upstream::{Group, Outbound, RelayError, Retry, TimeoutOverrides, UpstreamContext};
use protoplex_wire::manifest::{Upstream, UpstreamProtocol};
use std::{
    convert::Infallible,
    future::Future,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// A test that waits longer than this waits for ever.
const PATIENCE: Duration = Duration::from_secs(15);

pub type Answer = Response<UnsyncBoxBody<Bytes, StreamError>>;

/// Protocol that a server speaks.
pub enum Spoken {
    Http1,
    /// With that many streams on a connection.
    H2c(u32),
    /// The protocol that the handshake agrees on.
    Tls(Arc<ServerConfig>),
}

/// A server; it ends with this.
pub struct Server {
    pub address: String,
    pub connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

pub async fn serve<F, R>(spoken: Spoken, answer: F) -> Server
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let (spoken, answer) = (Arc::new(spoken), answer);
    let accepting = tokio::spawn(async move {
        let mut tasks = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Relaxed);
            let (spoken, answer) = (Arc::clone(&spoken), answer.clone());
            tasks.spawn(async move {
                match &*spoken {
                    Spoken::Http1 => http1(stream, answer).await,
                    Spoken::H2c(streams) => http2(stream, *streams, answer).await,
                    Spoken::Tls(config) => {
                        let acceptor = TlsAcceptor::from(Arc::clone(config));
                        let Ok(stream) = acceptor.accept(stream).await else {
                            return;
                        };
                        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                            http2(stream, 100, answer).await;
                        } else {
                            http1(stream, answer).await;
                        }
                    }
                }
            });
        }
    });
    Server {
        address,
        connections,
        accepting,
    }
}

async fn http1<F, R>(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, answer: F)
where
    F: Fn(Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    // A client that goes is no fault here.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .await;
}

async fn http2<F, R>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    streams: u32,
    answer: F,
) where
    F: Fn(Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(streams)
        .serve_connection(TokioIo::new(io), service)
        .await;
}

pub fn text(text: impl Into<Bytes>) -> Answer {
    let body = Full::new(text.into()).map_err(|never| match never {});
    Response::new(body.boxed_unsync())
}

pub fn upstream(protocol: UpstreamProtocol, servers: &[&Server]) -> Upstream {
    Upstream {
        addresses: servers
            .iter()
            .map(|server| server.address.clone())
            .collect(),
        protocol,
        ..Upstream::default()
    }
}

pub fn context() -> UpstreamContext {
    UpstreamContext {
        children: 1,
        ..UpstreamContext::default()
    }
}

pub fn group(upstream: &Upstream) -> Arc<Group> {
    // Where the system, or the environment, does not let it, sends go out one by one.
    let _ = batch_sends(
        |task| drop(tokio::spawn(task)),
        |task| drop(tokio::spawn(task)),
    );
    Group::new(upstream, &context()).unwrap()
}

pub fn outbound(method: Method, path: &str, body: Body) -> Outbound {
    Outbound {
        names_host: true,
        head: format!("{method} {path} HTTP/1.1\r\nhost: site.example\r\nx-note: 1\r\n")
            .into_bytes()
            .into(),
        method,
        body,
        upgrade: None,
        expects_continue: false,
        takes_trailers: false,
        interims: None,
        timeouts: TimeoutOverrides::default(),
        retry: Retry::Default,
        key: None,
        client: "192.0.2.1:4711".parse().unwrap(),
        counters: Arc::default(),
    }
}

pub fn get(path: &str) -> Outbound {
    outbound(Method::GET, path, Body::empty())
}

/// Sends and waits for the head.
pub async fn send(group: &Arc<Group>, request: Outbound) -> Result<Reply, RelayError> {
    soon(group.send(request)).await
}

/// The whole body.
pub async fn read(reply: Reply) -> Result<String, StreamError> {
    let collected = match reply.body {
        ReplyBody::Empty
        | ReplyBody::Absent { .. }
        | ReplyBody::Tunnel(_)
        | ReplyBody::Switch(_) => Bytes::new(),
        ReplyBody::Full(bytes) => bytes,
        ReplyBody::Stream(body) => soon(body.collect()).await?.to_bytes(),
        ReplyBody::Relay(body) => soon(body.collect()).await?.to_bytes(),
    };
    Ok(String::from_utf8(collected.to_vec()).unwrap())
}

/// Sends a GET and reads its answer.
pub async fn ask(group: &Arc<Group>, path: &str) -> String {
    read(send(group, get(path)).await.unwrap()).await.unwrap()
}

/// A patient wait for what must come.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.expect("this should have happened long ago")
}
