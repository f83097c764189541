//! How a tunnel ends: each end is told what the other did, and nobody says goodbye for who did not.

use crate::{
    support::{get, soon},
    tls::certificate,
};
use protoplex_http::{Answer, Body, Head, Scheme};
use protoplex_net::{Certificates, ListenHandle, Pem};
use protoplex_server::{ALPN, HttpLimits, Server, ServerSettings, Service};
use protoplex_upstream::{Group, Outbound, Retry, UpstreamContext};
use protoplex_wire::manifest::Upstream;
use rcgen::{CertifiedKey, KeyPair};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs},
};

const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\nfirst";

async fn head_of(io: &mut (impl AsyncRead + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(io.read_u8()).await.unwrap());
    }
}

/// A server for one tunnel, which does as the function says once it has agreed.
async fn server<T, F>(then: impl FnOnce(TcpStream) -> F + Send + 'static) -> (String, JoinHandle<T>)
where
    T: Send + 'static,
    F: Future<Output = T> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        head_of(&mut io).await;
        io.write_all(SWITCH).await.unwrap();
        then(io).await
    });
    (address, serving)
}

/// A certificate for `localhost`, and its key.
fn localhost() -> &'static CertifiedKey<KeyPair> {
    static MADE: OnceLock<CertifiedKey<KeyPair>> = OnceLock::new();
    MADE.get_or_init(|| certificate("localhost"))
}

fn server_tls() -> tokio_rustls::rustls::ServerConfig {
    let (cert, key) = (
        localhost().cert.pem(),
        localhost().signing_key.serialize_pem(),
    );
    let pem = Pem {
        cert: cert.into_bytes(),
        key: key.into_bytes(),
    };
    Certificates::new(&pem, &[]).unwrap().config(&ALPN).unwrap()
}

async fn connect_by_tls(running: &Running) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(localhost().cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let io = TcpStream::connect(running.at).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, io);
    soon(connecting).await.unwrap()
}

/// Relays all that comes to a group, as a request for another protocol.
struct Front(Arc<Group>);

impl Service for Front {
    fn call(&self, _: &Head<'_>, _: Body) -> Answer {
        let group = Arc::clone(&self.0);
        let outbound = Outbound {
            head: b"GET / HTTP/1.1\r\nhost: a\r\n".to_vec().into(),
            upgrade: Some("foo".to_owned()),
            retry: Retry::Never,
            ..get("/")
        };
        Answer::Later(Box::pin(async move { group.send(outbound).await.unwrap() }))
    }
}

/// A server for clients, and where it listens.
struct Running {
    _server: Server<Front>,
    at: SocketAddr,
    /// Accepts while it is not stopped.
    _listening: ListenHandle,
}

/// Relays to that server.
async fn relay(address: String, is_tls: bool, idle: Duration) -> Running {
    let upstream = Upstream {
        addresses: vec![address],
        ..Upstream::default()
    };
    let context = UpstreamContext {
        children: 1,
        ..UpstreamContext::default()
    };
    let group = Group::new(&upstream, &context).unwrap();
    let settings = ServerSettings {
        limits: HttpLimits {
            tunnel_idle_timeout: idle,
            ..HttpLimits::default()
        },
        tls: is_tls.then(|| Arc::new(server_tls())),
        ..ServerSettings::default()
    };
    let server = Server::new(Arc::new(Front(group)), settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let scheme = match is_tls {
        true => Scheme::Https,
        false => Scheme::Http,
    };
    let listening = server.listen(listener, scheme);
    Running {
        _server: server,
        at,
        _listening: listening,
    }
}

/// A tunnel, in which the server's first word has come.
async fn switched<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) -> IO {
    let ask = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n";
    io.write_all(ask).await.unwrap();
    head_of(&mut io).await;
    let mut first = [0; 5];
    soon(io.read_exact(&mut first)).await.unwrap();
    io
}

/// How the other end ended, after nothing more was said.
async fn end(mut io: impl AsyncRead + Unpin) -> Result<(), io::ErrorKind> {
    let mut rest = Vec::new();
    let end = soon(io.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    end.map(drop).map_err(|error| error.kind())
}

const LONG: Duration = Duration::from_secs(60);
const RESET: Result<(), io::ErrorKind> = Err(io::ErrorKind::ConnectionReset);

#[tokio::test]
async fn a_servers_end_or_reset_of_a_tunnel_reaches_the_client() {
    for (resets, expected) in [(false, Ok(())), (true, RESET)] {
        for is_tls in [false, true] {
            let (may_end, ends) = tokio::sync::oneshot::channel();
            let (address, serving) = server(async move |io: TcpStream| {
                let _ = ends.await;
                if resets {
                    io.set_zero_linger().unwrap();
                }
            })
            .await;
            let running = relay(address, is_tls, LONG).await;
            let ended = if is_tls {
                let mut client = switched(connect_by_tls(&running).await).await;
                may_end.send(()).unwrap();
                if !resets {
                    client.shutdown().await.unwrap();
                }
                end(client).await
            } else {
                let mut client = switched(TcpStream::connect(running.at).await.unwrap()).await;
                may_end.send(()).unwrap();
                if !resets {
                    client.shutdown().await.unwrap();
                }
                end(client).await
            };
            assert_eq!(ended, expected, "TLS: {is_tls}");
            serving.await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_clients_end_or_reset_of_a_tunnel_reaches_the_server() {
    for (resets, expected) in [(false, Ok(())), (true, RESET)] {
        let (address, serving) = server(end).await;
        let running = relay(address, false, LONG).await;
        let client = switched(TcpStream::connect(running.at).await.unwrap()).await;
        if resets {
            client.set_zero_linger().unwrap();
        }
        drop(client);
        assert_eq!(soon(serving).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_tunnel_without_a_word_is_reset_on_both_sides() {
    let (address, serving) = server(end).await;
    let running = relay(address, false, Duration::from_millis(50)).await;
    let client = switched(TcpStream::connect(running.at).await.unwrap()).await;
    assert_eq!(end(client).await, RESET);
    assert_eq!(soon(serving).await.unwrap(), RESET);
}
