//! HTTPS: the protocol is agreed in the handshake.

use crate::support::{Running, soon, start, text};
use protoplex_http::Scheme;
use protoplex_net::{Certificates, Pem, TicketSecret};
use protoplex_server::{ALPN, HttpLimits};
use std::sync::Arc;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ALL_VERSIONS, ClientConfig, HandshakeKind, RootCertStore, ServerConfig,
        SupportedProtocolVersion,
        pki_types::CertificateDer,
        version::{TLS12, TLS13},
    },
};

/// A certificate for `localhost`, made once, and its key.
fn certificate() -> &'static rcgen::CertifiedKey<rcgen::KeyPair> {
    static MADE: std::sync::OnceLock<rcgen::CertifiedKey<rcgen::KeyPair>> =
        std::sync::OnceLock::new();
    MADE.get_or_init(|| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap())
}

/// TLS with which the node would serve.
pub fn server_config() -> ServerConfig {
    let made = certificate();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let pem = Pem {
        cert: cert.into_bytes(),
        key: key.into_bytes(),
    };
    Certificates::new(&pem, &[]).unwrap().config(&ALPN).unwrap()
}

/// A client that speaks these protocols.
pub async fn connect(
    running: &Running,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_over(TcpStream::connect(running.at).await.unwrap(), protocols).await
}

/// Connects on a connection that is there.
pub async fn connect_over<IO: AsyncRead + AsyncWrite + Unpin>(
    io: IO,
    protocols: &[&str],
) -> std::io::Result<TlsStream<IO>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(certificate().cert.der().to_vec()))
        .unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let name = "localhost".try_into().unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, io)).await
}

async fn server() -> Running {
    start(HttpLimits::default(), Some(server_config()), |head, _| {
        assert_eq!(head.scheme, Scheme::Https);
        text(format!("{} {}", head.version, head.authority))
    })
    .await
}

#[tokio::test]
async fn http_1_1_is_spoken_to_who_asks_for_it_or_for_nothing() {
    let running = server().await;
    for protocols in [&["http/1.1"][..], &["http/1.0"], &[]] {
        let mut tls = connect(&running, protocols).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        tls.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        // An end without TLS's own goodbye would be an error here.
        soon(tls.read_to_string(&mut text)).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n11 localhost"), "{text}");
    }
}

#[tokio::test]
async fn http_2_is_spoken_to_who_can() {
    let running = server().await;
    let tls = connect(&running, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = crate::http2::client(tls).await;
    let (status, _, body) = client.get("https://localhost/").await.unwrap();
    assert_eq!((status, body.as_str()), (200, "20 localhost"));
}

#[tokio::test]
async fn a_protocol_we_do_not_speak_is_refused_in_the_handshake() {
    let running = server().await;
    assert!(connect(&running, &["spdy/3"]).await.is_err());
}

/// A certificate for these names, and its key.
fn made(names: &[&str]) -> (Pem, CertificateDer<'static>) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let pem = Pem {
        cert: made.cert.pem().into_bytes(),
        key: made.signing_key.serialize_pem().into_bytes(),
    };
    (pem, CertificateDer::from(made.cert.der().to_vec()))
}

/// A client that trusts these, and keeps its sessions.
fn client_of(
    roots: &[&CertificateDer<'static>],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add((*root).clone()).unwrap();
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    Arc::new(config)
}

/// The certificate shown, and whether the session was resumed. One request is made, so that tickets arrive.
async fn visit(
    running: &Running,
    config: &Arc<ClientConfig>,
    name: &'static str,
) -> std::io::Result<(CertificateDer<'static>, bool)> {
    let io = TcpStream::connect(running.at).await.unwrap();
    let name = name.try_into().unwrap();
    let mut tls = soon(TlsConnector::from(Arc::clone(config)).connect(name, io)).await?;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    tls.write_all(request.as_bytes()).await?;
    soon(tls.read_to_end(&mut Vec::new())).await?;
    let connection = tls.get_ref().1;
    let shown = connection.peer_certificates().unwrap()[0]
        .clone()
        .into_owned();
    Ok((
        shown,
        connection.handshake_kind() == Some(HandshakeKind::Resumed),
    ))
}

async fn serving(certificates: &Arc<Certificates>) -> Running {
    let config = certificates.config(&ALPN).unwrap();
    start(HttpLimits::default(), Some(config), |_, _| text("hello")).await
}

#[tokio::test]
async fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let (default, shown_default) = made(&["localhost"]);
    let (wild, shown_wild) = made(&["*.example.com", "example.com"]);
    let (exact, shown_exact) = made(&["a.example.com"]);
    let certificates = Certificates::new(&default, &[wild, exact]).unwrap();
    let running = serving(&certificates).await;
    let client = client_of(&[&shown_default, &shown_wild, &shown_exact], ALL_VERSIONS);
    for (name, expected) in [
        ("a.example.com", &shown_exact),
        ("A.Example.COM", &shown_exact),
        ("b.example.com", &shown_wild),
        ("example.com", &shown_wild),
        ("localhost", &shown_default),
    ] {
        assert_eq!(
            &visit(&running, &client, name).await.unwrap().0,
            expected,
            "{name}"
        );
    }
    // Nobody's: it is shown the default, which it refuses.
    assert!(visit(&running, &client, "b.a.example.com").await.is_err());
}

#[tokio::test]
async fn certificates_are_replaced_live_and_bad_ones_refused() {
    let (old, shown_old) = made(&["localhost"]);
    let (new, shown_new) = made(&["localhost"]);
    let certificates = Certificates::new(&old, &[]).unwrap();
    let running = serving(&certificates).await;
    let fresh = || client_of(&[&shown_old, &shown_new], ALL_VERSIONS);
    let mut before = connect_as(&running, fresh()).await;
    assert_eq!(
        visit(&running, &fresh(), "localhost").await.unwrap().0,
        shown_old
    );
    let strangers = Pem {
        cert: new.cert.clone(),
        key: old.key.clone(),
    };
    let empty = Pem {
        cert: Vec::new(),
        key: old.key.clone(),
    };
    for bad in [strangers, empty] {
        assert!(certificates.replace(&bad, &[]).is_err());
        assert!(certificates.replace(&new, &[bad]).is_err());
        assert_eq!(
            visit(&running, &fresh(), "localhost").await.unwrap().0,
            shown_old
        );
    }
    certificates.replace(&new, &[]).unwrap();
    assert_eq!(
        visit(&running, &fresh(), "localhost").await.unwrap().0,
        shown_new
    );
    before
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    soon(before.read_to_string(&mut text)).await.unwrap();
    assert!(text.ends_with("hello"), "{text}");
}

async fn connect_as(running: &Running, config: Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let io = TcpStream::connect(running.at).await.unwrap();
    let name = "localhost".try_into().unwrap();
    soon(TlsConnector::from(config).connect(name, io))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_session_resumes_at_another_child_under_the_same_secret() {
    let (pem, shown) = made(&["localhost"]);
    for version in [&TLS13, &TLS12] {
        for (shared, tickets) in [(true, true), (false, true), (false, false)] {
            let secret = TicketSecret::random().unwrap();
            let mut children = Vec::new();
            for _ in 0..2 {
                let certificates = Certificates::new(&pem, &[]).unwrap();
                let own = TicketSecret::random().unwrap();
                if tickets {
                    certificates.set_ticket_secret(if shared { secret.clone() } else { own });
                }
                children.push(serving(&certificates).await);
            }
            let client = client_of(&[&shown], &[version]);
            let resumed = |at: usize| {
                let (running, client) = (&children[at], &client);
                async move { visit(running, client, "localhost").await.unwrap().1 }
            };
            assert!(!resumed(0).await);
            // At the child that made it a session always resumes, by ticket or by its id.
            assert!(resumed(0).await, "{version:?} {shared} {tickets}");
            assert_eq!(resumed(1).await, shared, "{version:?} {shared} {tickets}");
        }
    }
}
