//! HTTPS: the protocol is agreed in the handshake.

use crate::support::{Running, soon, start, text};
use protoplex_edge::Limits;
use protoplex_http::Scheme;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::CertificateDer},
};

/// A certificate for `localhost`, made once, and its key.
fn certificate() -> &'static rcgen::CertifiedKey<rcgen::KeyPair> {
    static MADE: std::sync::OnceLock<rcgen::CertifiedKey<rcgen::KeyPair>> =
        std::sync::OnceLock::new();
    MADE.get_or_init(|| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap())
}

/// What the node would serve with.
pub fn server_config() -> ServerConfig {
    let made = certificate();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    protoplex_edge::tls_config(cert.as_bytes(), key.as_bytes()).unwrap()
}

/// A client that speaks these protocols.
pub async fn connect(
    running: &Running,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_over(TcpStream::connect(running.at).await.unwrap(), protocols).await
}

/// The same on a connection that is there.
pub async fn connect_over(
    io: TcpStream,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
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
    start(Limits::default(), Some(server_config()), |head, _| {
        assert_eq!(head.scheme, Scheme::Https);
        text(format!("{} {}", head.version, head.authority))
    })
    .await
}

#[tokio::test]
async fn http_1_1_is_spoken_to_who_asks_for_it_or_for_nothing() {
    let running = server().await;
    for protocols in [&["http/1.1"][..], &[]] {
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
