//! A server on a free port, services from closures, and a client that says exactly what it is told.

use bytes::Bytes;
use futures::FutureExt;
use http::StatusCode;
use http_body_util::BodyExt;
use protoplex_http::{Answer, Body, BodyError, Head, Reply, ReplyBody, Scheme};
use protoplex_net::{ListenHandle, batch_sends};
use protoplex_server::{HttpLimits, Server, ServerSettings, Service};
use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

/// A test that waits longer than this waits for ever.
const PATIENCE: Duration = Duration::from_secs(15);

type Call = dyn Fn(&Head<'_>, Body) -> Answer + Send + Sync;

/// A service from a closure.
pub struct Fun(Box<Call>);

impl Service for Fun {
    fn call(&self, head: &Head<'_>, body: Body) -> Answer {
        (self.0)(head, body)
    }
}

/// A server and where it listens.
pub struct Running {
    pub server: Server<Fun>,
    pub at: SocketAddr,
    /// Accepts while it is not stopped.
    pub _listening: ListenHandle,
}

/// Serves plain HTTP.
pub async fn serve<F>(limits: HttpLimits, service: F) -> Running
where
    F: Fn(&Head<'_>, Body) -> Answer + Send + Sync + 'static,
{
    start(limits, None, service).await
}

/// Serves on a free port; HTTPS where there is a configuration of it.
pub async fn start<F>(
    limits: HttpLimits,
    tls: Option<tokio_rustls::rustls::ServerConfig>,
    service: F,
) -> Running
where
    F: Fn(&Head<'_>, Body) -> Answer + Send + Sync + 'static,
{
    let tls = tls.map(Arc::new);
    start_with(
        ServerSettings {
            limits,
            tls,
            ..ServerSettings::default()
        },
        service,
    )
    .await
}

/// Serves on a free port, set up as a test needs it.
pub async fn start_with<F>(settings: ServerSettings, service: F) -> Running
where
    F: Fn(&Head<'_>, Body) -> Answer + Send + Sync + 'static,
{
    // Where the system, or the environment, does not let it, sends go out one by one.
    let _ = batch_sends(
        |task| drop(tokio::spawn(task)),
        |task| drop(tokio::spawn(task)),
    );
    let scheme = match settings.tls {
        Some(_) => Scheme::Https,
        None => Scheme::Http,
    };
    let server = Server::new(Arc::new(Fun(Box::new(service))), settings);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let listening = server.listen(listener, scheme);
    Running {
        server,
        at,
        _listening: listening,
    }
}

/// Answers at once with a text.
pub fn text(text: impl Into<Bytes>) -> Answer {
    Answer::Ready(Reply::text(StatusCode::OK, text))
}

/// Answers later.
pub fn later(reply: impl Future<Output = Reply> + Send + 'static) -> Answer {
    Answer::Later(reply.boxed())
}

/// Reads the body, then says what it was; a body that fails is said as such.
pub fn collect(body: Body) -> Answer {
    later(async move {
        match body.collect().await {
            Ok(body) => Reply::text(StatusCode::OK, body.to_bytes()),
            Err(error) => Reply::text(StatusCode::IM_A_TEAPOT, error.to_string()),
        }
    })
}

/// A body as the body of a reply.
pub fn echo(body: Body) -> Answer {
    let body = body.map_err(|error: BodyError| error.into());
    Answer::Ready(streamed(body))
}

/// A 200 with a streamed body.
pub fn streamed<B>(body: B) -> Reply
where
    B: http_body::Body<Data = Bytes, Error = protoplex_http::StreamError> + Send + 'static,
{
    let mut reply = Reply::empty(StatusCode::OK);
    reply.body = ReplyBody::Stream(body.boxed_unsync());
    reply
}

/// Ends with an error when it takes too long.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.expect("this should have happened long ago")
}

/// Tells when it is dropped.
pub struct Dropped(Option<oneshot::Sender<()>>);

impl Dropped {
    pub fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.take().map(|sender| sender.send(()));
    }
}

/// Bytes that a client read.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    pub status: u16,
    /// Lower-case lines.
    pub lines: Vec<String>,
    pub body: String,
}

impl Read {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.lines.iter().filter_map(|line| line.split_once(": "));
        values
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }
}

/// A client on one connection.
pub struct Client {
    pub io: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn to(running: &Running) -> Self {
        let io = TcpStream::connect(running.at).await.unwrap();
        io.set_nodelay(true).unwrap();
        Self {
            io,
            buffer: Vec::new(),
        }
    }

    /// Another hand on the same connection, to write while this one reads.
    pub fn split(self) -> (Self, TcpStream) {
        let io = self.io.into_std().unwrap();
        let write = TcpStream::from_std(io.try_clone().unwrap()).unwrap();
        let io = TcpStream::from_std(io).unwrap();
        let buffer = self.buffer;
        (Self { io, buffer }, write)
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.io.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Sends and reads one reply.
    pub async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Read {
        self.send(bytes).await;
        self.read().await
    }

    /// One reply with its body.
    pub async fn read(&mut self) -> Read {
        let mut read = self.head().await;
        if read.header("transfer-encoding") == Some("chunked") {
            read.body = self.chunks().await;
        } else if let Some(length) = read.header("content-length") {
            let length = length.parse().unwrap();
            read.body = String::from_utf8(self.exactly(length).await).unwrap();
        }
        read
    }

    /// One reply's head.
    pub async fn head(&mut self) -> Read {
        let head = self.until("\r\n\r\n").await;
        let (line, lines) = head.split_once("\r\n").unwrap();
        let status = line.strip_prefix("HTTP/1.1 ").unwrap().get(..3).unwrap();
        Read {
            status: status.parse().unwrap(),
            lines: lines.lines().map(str::to_lowercase).collect(),
            body: String::new(),
        }
    }

    async fn chunks(&mut self) -> String {
        let mut body = Vec::new();
        loop {
            let line = self.until("\r\n").await;
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size).await);
            assert_eq!(self.exactly(2).await, b"\r\n");
        }
        while self.until("\r\n").await != "\r\n" {}
        String::from_utf8(body).unwrap()
    }

    /// Everything up to the end of the connection; a reset is told from an end.
    pub async fn rest(&mut self) -> Result<String, std::io::ErrorKind> {
        while self.more().await? > 0 {}
        Ok(String::from_utf8(std::mem::take(&mut self.buffer)).unwrap())
    }

    /// Whether the server still takes what is sent, though it has said its last word: a client that is busy sending
    /// must get to read that word.
    pub async fn is_heard_out(&mut self) -> bool {
        for _ in 0..20 {
            if self.io.write_all(b"more").await.is_err() {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    }

    async fn until(&mut self, end: &str) -> String {
        loop {
            let found = self
                .buffer
                .windows(end.len())
                .position(|w| w == end.as_bytes());
            if let Some(at) = found {
                let text = self.buffer.drain(..at + end.len()).collect();
                return String::from_utf8(text).unwrap();
            }
            let read = self.more().await.unwrap();
            assert!(
                read > 0,
                "the connection ended: {:?}",
                self.buffer.escape_ascii().to_string()
            );
        }
    }

    pub async fn exactly(&mut self, bytes: usize) -> Vec<u8> {
        while self.buffer.len() < bytes {
            assert!(
                self.more().await.unwrap() > 0,
                "the connection ended in a body"
            );
        }
        self.buffer.drain(..bytes).collect()
    }

    async fn more(&mut self) -> Result<usize, std::io::ErrorKind> {
        soon(self.io.read_buf(&mut self.buffer))
            .await
            .map_err(|error| error.kind())
    }
}
