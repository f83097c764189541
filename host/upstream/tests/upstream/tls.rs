//! TLS to servers: nobody is spoken to who is not who they should be.

use crate::support::{
    Answer, Server, Spoken, ask, context, get, group, read, send, serve, text, upstream,
};
use futures::future::join_all;
use http::Request;
use hyper::body::Incoming;
use protoplex_upstream::{Group, NodeCertificate};
use protoplex_wire::manifest::{Upstream, UpstreamProtocol, UpstreamTls};
use rcgen::{CertifiedKey, KeyPair};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer,
    server::WebPkiClientVerifier,
};

pub fn certificate(name: &str) -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed([name.to_owned()]).unwrap()
}

/// A server's side: its certificate, whose callers it knows, what it speaks.
pub fn config(
    own: &CertifiedKey<KeyPair>,
    callers: Option<&CertifiedKey<KeyPair>>,
    protocols: &[&str],
) -> Spoken {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match callers {
        None => builder.with_no_client_auth(),
        Some(callers) => {
            let mut roots = RootCertStore::empty();
            roots.add(callers.cert.der().clone()).unwrap();
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let mut config = builder
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    Spoken::Tls(Arc::new(config))
}

async fn version(request: Request<Incoming>) -> Answer {
    let upgrade = request.headers().contains_key("upgrade");
    text(format!("{:?} {upgrade}", request.version()))
}

fn trusting(own: &CertifiedKey<KeyPair>, protocol: UpstreamProtocol, server: &Server) -> Upstream {
    Upstream {
        tls: UpstreamTls {
            server_name: Some("back.internal".into()),
            ca_pem: Some(own.cert.pem()),
            node_certificate: false,
        },
        ..upstream(protocol, &[server])
    }
}

#[tokio::test]
async fn a_verified_server_is_relayed_to_on_few_connections() {
    let own = certificate("back.internal");
    for (protocol, offered, spoken) in [
        (UpstreamProtocol::Https, &["h2", "http/1.1"][..], "HTTP/2.0"),
        (UpstreamProtocol::Https, &["http/1.1"], "HTTP/1.1"),
        (UpstreamProtocol::Https, &[], "HTTP/1.1"),
        (
            UpstreamProtocol::HttpsHttp1,
            &["h2", "http/1.1"],
            "HTTP/1.1",
        ),
    ] {
        let server = serve(config(&own, None, offered), version).await;
        let group = group(&trusting(&own, protocol, &server));
        // Tickets come with the first answer or after it: an idle connection is no less idle for them.
        for _ in 0..3 {
            assert_eq!(ask(&group, "/").await, format!("{spoken} false"));
        }
        assert_eq!(server.connections(), 1, "{protocol:?} {offered:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_who_it_should_be_hears_nothing() {
    let own = certificate("back.internal");
    let server = serve(config(&own, None, &["http/1.1"]), version).await;
    let good = trusting(&own, UpstreamProtocol::HttpsHttp1, &server);
    let mut other_name = good.clone();
    other_name.tls.server_name = Some("other.internal".into());
    let mut other_authority = good.clone();
    other_authority.tls.ca_pem = Some(certificate("back.internal").cert.pem());
    let mut the_webs = good.clone();
    the_webs.tls.ca_pem = None;
    // Without a name of its own it must be certified for its address.
    let mut by_address = good.clone();
    by_address.tls.server_name = None;
    for (bad, why) in [
        (other_name, "not valid for name"),
        (other_authority, "invalid peer certificate"),
        (the_webs, "UnknownIssuer"),
        (by_address, "not valid for name"),
    ] {
        let failed = send(&group(&bad), get("/")).await.unwrap_err().to_string();
        assert!(
            failed.contains("no connection") && failed.contains(why),
            "{failed}"
        );
    }
    assert_eq!(ask(&group(&good), "/").await, "HTTP/1.1 false");
}

#[tokio::test]
async fn the_nodes_certificate_is_shown_where_the_upstream_wants_it() {
    let (own, node) = (certificate("back.internal"), certificate("node"));
    let server = serve(config(&own, Some(&node), &["h2"]), version).await;
    let mut upstream = trusting(&own, UpstreamProtocol::Https, &server);
    assert!(send(&group(&upstream), get("/")).await.is_err());
    upstream.tls.node_certificate = true;
    let mut context = context();
    let refused = Group::new(&upstream, &context).err().unwrap().to_string();
    assert!(refused.contains("no certificate to present"), "{refused}");
    let key = node.signing_key.serialize_pem();
    let pem = node.cert.pem();
    context.node_certificate = NodeCertificate::from_pem(pem.as_bytes(), key.as_bytes()).ok();
    let group = Group::new(&upstream, &context).unwrap();
    assert_eq!(ask(&group, "/").await, "HTTP/2.0 false");
}

#[tokio::test]
async fn what_wants_to_be_upgraded_goes_by_http_1_1() {
    let own = certificate("back.internal");
    let server = serve(config(&own, None, &["h2", "http/1.1"]), version).await;
    let group = group(&trusting(&own, UpstreamProtocol::Https, &server));
    assert_eq!(ask(&group, "/").await, "HTTP/2.0 false");
    let mut request = get("/");
    request.upgrade = Some("websocket".into());
    let reply = send(&group, request).await.unwrap();
    assert_eq!(read(reply).await.unwrap(), "HTTP/1.1 true");
}

#[tokio::test]
async fn authorities_that_are_none_refuse_the_group() {
    let own = certificate("back.internal");
    let server = serve(Spoken::Http1, version).await;
    for (pem, why) in [
        ("", "tls.ca has no certificate in it"),
        (
            "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n",
            "tls.ca is no PEM",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "tls.ca cannot be used",
        ),
    ] {
        let mut upstream = trusting(&own, UpstreamProtocol::Https, &server);
        upstream.tls.ca_pem = Some(pem.into());
        let refused = Group::new(&upstream, &context()).err().unwrap().to_string();
        assert!(refused.starts_with(why), "{refused}");
    }
}

#[tokio::test]
async fn many_requests_to_a_black_hole_wait_one_connect_timeout() {
    const TIMEOUT: Duration = Duration::from_millis(500);
    // The kernel takes the connection, and nobody answers the handshake.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let group = group(&Upstream {
        addresses: vec![silent.local_addr().unwrap().to_string()],
        connect_timeout_ms: TIMEOUT.as_millis() as u64,
        tls: UpstreamTls {
            ca_pem: Some(certificate("back.internal").cert.pem()),
            ..UpstreamTls::default()
        },
        ..upstream(UpstreamProtocol::Https, &[])
    });
    let began = Instant::now();
    let failed = join_all((0..8).map(|_| send(&group, get("/")))).await;
    assert!(failed.iter().all(Result::is_err));
    let took = began.elapsed();
    assert!(took < 4 * TIMEOUT, "{took:?}");
}
