//! Permissions, told by certificates.

use super::*;
use protoplex_seed_client::StreamedResponse;
use protoplex_wire::{Digest, status::GcOrder};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Number of bytes that a client gets that knows the authority but has no certificate of its own.
async fn ask_without_certificate(seed: &TestSeed) -> std::io::Result<usize> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(seed.authority().ca()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = seed.url.strip_prefix("https://").unwrap();
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    // In TLS 1.3 the client's half ends first, so the refusal comes with the first read.
    let mut stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
    let request = b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await?;
    stream.read(&mut [0; 64]).await
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let seed = TestSeed::start(NEVER).await;
    let response = ask_without_certificate(&seed).await;
    assert!(response.is_err(), "{response:?}");
    seed.operator().status().await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let seed = TestSeed::start(NEVER).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = Authority::open_or_create(elsewhere.path()).unwrap();
    let foreign = foreign.issue_operator("me").unwrap();
    let response = seed.client(&foreign).status().await;
    assert!(
        matches!(response, Err(ClientError::Unreachable { .. })),
        "{response:?}"
    );
}

#[tokio::test]
async fn a_client_refuses_a_seed_of_another_authority() {
    let seed = TestSeed::start(NEVER).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = Authority::open_or_create(elsewhere.path()).unwrap();
    let me = seed.authority().issue_operator("me").unwrap();
    let client = SeedClient::new(&seed.url, &foreign.identity(&me)).unwrap();
    let response = client.status().await;
    assert!(
        matches!(response, Err(ClientError::Unreachable { .. })),
        "{response:?}"
    );
}

#[tokio::test]
async fn a_nodes_certificate_cannot_do_what_operators_do() {
    let seed = TestSeed::start(NEVER).await;
    let build = seed.build("one").await;
    let node = seed.node_client("app-1");
    let order = ReleaseOrder {
        build,
        made_against: None,
    };
    let sent = node.put_blob(Digest::of(b"x"), "x".into(), |_| ()).await;
    assert_refused(sent, 403, "forbidden");
    assert_refused(node.missing(&[build]).await, 403, "forbidden");
    assert_refused(node.submit(&seed.sign(build)).await, 403, "forbidden");
    assert_refused(node.release(&order).await, 403, "forbidden");
    assert_refused(node.rollback(None).await, 403, "forbidden");
    assert_refused(node.adopt(build).await, 403, "forbidden");
    for dry_run in [true, false] {
        let collected = node.gc(GcOrder { dry_run }).await;
        assert_refused(collected, 403, "forbidden");
    }
    assert_refused(node.releases().await, 403, "forbidden");
    assert_refused(node.nodes().await, 403, "forbidden");
    assert!(seed.operator().releases().await.unwrap().is_empty());
    // What it needs to run a build, it may have.
    node.get_blob(build, 1 << 20).await.unwrap();
    node.build(build).await.unwrap();
    node.status().await.unwrap();
}

#[tokio::test]
async fn a_link_is_for_the_node_of_that_certificate_alone() {
    let seed = TestSeed::start(NEVER).await;
    let hello = hello("app-1", ReleaseId::default());
    let operator = seed.operator().link(hello.clone()).await;
    assert_refused(operator, 403, "forbidden");
    let other = seed.node_client("app-2").link(hello.clone()).await;
    assert_refused(other, 403, "forbidden");
    let node = seed.node_client("app-1");
    let mut live = hello.clone();
    live.role = Role::Live;
    assert_refused(node.link(live).await, 403, "forbidden");
    for address in ["http://192.0.2.7:80", "http://elsewhere:80", "nowhere"] {
        let mut elsewhere = hello.clone();
        elsewhere.addresses.http = address.to_owned();
        assert_refused(node.link(elsewhere).await, 403, "forbidden");
        let mut elsewhere = hello.clone();
        elsewhere.child_addresses = vec![address.to_owned()];
        assert_refused(node.link(elsewhere).await, 403, "forbidden");
    }
    assert!(seed.operator().nodes().await.unwrap().is_empty());
    let mut here = hello;
    here.addresses.http = "http://127.0.0.1:80".to_owned();
    here.addresses.meta = "https://[::1]:80".to_owned();
    here.addresses.health = "http://localhost:80".to_owned();
    let (_sender, mut receiver) = node.link(here).await.unwrap();
    assert!(matches!(
        receiver.next().await,
        Some(Ok(FromSeed::Welcome { .. }))
    ));
}

/// Issues a certificate of the fleet's authority with whatever URI name.
fn issue_with(seed: &TestSeed, name: &str, uri: &str) -> IssuedCertificate {
    let pki = seed.dir.path().join("pki");
    let text = |file: &str| std::fs::read_to_string(pki.join(file)).unwrap();
    let issuer = KeyPair::from_pem(&text("ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&text("ca.pem"), issuer).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let uri = SanType::URI(uri.try_into().unwrap());
    params.subject_alt_names.push(uri);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let issued = IssuedCertificate {
        cert: pki.join(format!("{name}.pem")),
        key: pki.join(format!("{name}.key")),
    };
    std::fs::write(&issued.cert, certificate.pem()).unwrap();
    std::fs::write(&issued.key, key.serialize_pem()).unwrap();
    issued
}

#[tokio::test]
async fn a_certificate_without_a_role_is_refused_with_the_remedy() {
    let seed = TestSeed::start(NEVER).await;
    let issued = issue_with(&seed, "old", "protoplex://node/old");
    let response = seed
        .client(&issued)
        .link(hello("old", ReleaseId::default()))
        .await;
    let error = response.map(drop).unwrap_err().to_string();
    assert!(error.contains("protoplex up"), "{error}");
}

/// Every member has a certificate that is good for serving, and only one of them is the Seed.
#[tokio::test]
async fn a_client_refuses_a_node_that_answers_for_the_seed() {
    let mut seed = TestSeed::start(NEVER).await;
    let node = seed
        .authority()
        .issue_node("app-1", Role::App, &[])
        .unwrap();
    seed.stop().await;
    let (url, stop, task) = start_as(&seed.dir, NEVER, node).await;
    (seed.url, seed.stop, seed.task) = (url, stop, task);
    let me = seed.authority().issue_operator("me").unwrap();
    for client in [seed.client(&me), seed.node_client("app-2")] {
        let response = client.status().await;
        let error = response.unwrap_err().to_string();
        assert!(error.contains("protoplex://node/app/app-1"), "{error}");
    }
    // Who means that node may speak to it, and who means another may not.
    let url = format!("{}/v1/status", seed.url);
    let operator = seed.client(&me);
    assert!(operator.node("app-1").unwrap().get(&url).await.is_ok());
    assert!(operator.node("app-2").unwrap().get(&url).await.is_err());
}

#[tokio::test]
async fn a_certificate_that_is_for_serving_opens_nothing() {
    let seed = TestSeed::start(NEVER).await;
    // The Seed's own, which is good for a client too, names neither a node nor an operator.
    let seed_itself = seed.authority().issue_seed(&[]).unwrap();
    let client = seed.client(&seed_itself);
    assert_refused(client.status().await, 403, "forbidden");
    assert_refused(client.releases().await, 403, "forbidden");
    // That of the public port is not even a client's.
    let public = seed.authority().issue_public(&[]).unwrap();
    let response = seed.client(&public).status().await;
    assert!(
        matches!(response, Err(ClientError::Unreachable { .. })),
        "{response:?}"
    );
}

#[tokio::test]
async fn what_is_not_there_is_answered_in_words() {
    let seed = TestSeed::start(NEVER).await;
    let client = seed.operator();
    let status = async |path: &str| {
        let response: StreamedResponse = client.get(&format!("{}{path}", seed.url)).await.unwrap();
        let status = response.status().as_u16();
        let text = response.collect(1 << 16).await.unwrap();
        let error: protoplex_wire::status::ApiError = serde_json::from_slice(&text).unwrap();
        (status, error.code)
    };
    assert_eq!(status("/v1/nothing").await, (404, "path".to_owned()));
    assert_eq!(status("/v1/rollback").await, (405, "method".to_owned()));
    assert_eq!(status("/v1/blobs/zz").await, (400, "request".to_owned()));
    let absent = Digest::of(b"absent");
    let path = format!("/v1/blobs/{absent}");
    assert_eq!(status(&path).await, (404, "blob".to_owned()));
    let path = format!("/v1/builds/{absent}");
    assert_eq!(status(&path).await, (404, "build".to_owned()));
    assert_refused(client.rollback(None).await, 404, "no-rollback");
}
