//! Nobody's word is believed beyond what vouches for it: a certificate says who somebody is, and a token for how long.

use crate::{
    deploys::{HOP_HEADER, active, hop, hop_key, hop_of, internal, origin_of},
    relaying,
};
use protoplex_fleet::{Expected, FleetIdentity, MemberFiles, mutual_tls};
use protoplex_seed_client::{ClientError, SeedClient};
use protoplex_tests::{Connection, Fleet, Origin, Response, ok_with, said};
use protoplex_wire::{BuildId, ReleaseId, link::Hello, manifest::Role, status::Addresses};
use rustls::pki_types::ServerName;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

const SWAP: &str = "tests/builds/swap.toml";
/// Whoever is refused is refused by then.
const REFUSED_MAX: Duration = Duration::from_secs(10);

/// Certificate and key of one of the fleet's members.
fn files(fleet: &Fleet, who: &str) -> FleetIdentity {
    let pki = fleet.data().join("pki");
    FleetIdentity {
        ca: pki.join("ca.pem"),
        certificate: pki.join(format!("{who}.pem")),
        key: pki.join(format!("{who}.key")),
    }
}

fn client(fleet: &Fleet, who: &str) -> SeedClient {
    SeedClient::new(fleet.info["seed"].as_str().unwrap(), &files(fleet, who)).unwrap()
}

fn hello(node: &str, role: Role) -> Hello {
    Hello {
        node: node.to_owned(),
        role,
        host_version: "test".to_owned(),
        target: "test".to_owned(),
        addresses: Addresses::default(),
        children: 1,
        held: Vec::new(),
        active: None,
        release: ReleaseId::default(),
        release_build: None,
        region: String::new(),
        capacity: 0,
        child_addresses: Vec::new(),
        children_ready: 0,
        leaving: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_certificate_opens_no_meta_port() {
    let fleet = Fleet::start_with(SWAP, &["--nodes", "live=1"]).unwrap();
    let proxy = fleet.node("proxy");
    let build = active(&fleet);
    let paths = [
        (http::Method::GET, "/logs".to_owned(), 200),
        (http::Method::GET, "/metrics".to_owned(), 200),
        (http::Method::GET, "/status".to_owned(), 200),
        (http::Method::GET, format!("/builds/{build}"), 200),
        (http::Method::GET, format!("/blobs/{build}"), 200),
        (
            http::Method::GET,
            format!("/blobs/{}", BuildId::of(b"none")),
            404,
        ),
        (http::Method::POST, "/drain".to_owned(), 202),
    ];
    for who in ["app-1", "live-1", "proxy-1", "operator"] {
        let client = client(&fleet, who).node(&proxy.name).unwrap();
        for (method, path, expected) in &paths {
            let url = format!("{}{path}", proxy.meta);
            let answer = client.open(method.clone(), &url).await.unwrap();
            let expected = match who {
                "operator" => *expected,
                _ => 403,
            };
            assert_eq!(answer.status(), expected, "{who} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_registers_as_what_its_certificate_says() {
    let fleet = Fleet::start_with(SWAP, &["--nodes", "live=1"]).unwrap();
    let app = client(&fleet, "app-1");
    let mut elsewhere = hello("app-1", Role::App);
    elsewhere.addresses.http = "http://192.0.2.1:80".to_owned();
    for hello in [
        hello("app-1", Role::Live),
        hello("app-1", Role::Proxy),
        hello("app-2", Role::App),
        hello("live-1", Role::Live),
        elsewhere,
    ] {
        let refused = app.link(hello).await.map(drop);
        assert!(
            matches!(refused, Err(ClientError::Api { status: 403, .. })),
            "{refused:?}"
        );
    }
    let nodes = client(&fleet, "operator").nodes().await.unwrap();
    let roles: Vec<_> = nodes.iter().map(|node| (&*node.node, node.role)).collect();
    assert_eq!(
        roles,
        [
            ("app-1", Role::App),
            ("live-1", Role::Live),
            ("proxy-1", Role::Proxy)
        ]
    );
}

/// Every node has a certificate that is good for serving, and its meta port serves by it.
#[tokio::test(flavor = "multi_thread")]
async fn no_node_is_taken_for_the_seed_or_for_another_node() {
    let fleet = Fleet::start(SWAP).unwrap();
    let (app, proxy) = (fleet.node("app"), fleet.node("proxy"));
    let files = files(&fleet, "operator");
    let mut command = fleet.command(&["status", "--seed", &app.meta]).unwrap();
    command.arg("--ca").arg(files.ca);
    command.arg("--cert").arg(files.certificate);
    let told = said(command.arg("--key").arg(files.key)).unwrap();
    assert_eq!(told.code, 1, "{told:?}");
    for text in ["protoplex://node/app/app-1", "protoplex://seed"] {
        assert!(told.err.contains(text), "{told:?}");
    }
    let operator = client(&fleet, "operator");
    let meant = operator.node(&proxy.name).unwrap();
    let answer = meant.get(&format!("{}/logs", app.meta)).await;
    assert!(matches!(answer, Err(ClientError::Unreachable { .. })));
    let seed = fleet.info["seed"].as_str().unwrap();
    let answer = meant.get(&format!("{seed}/v1/status")).await;
    assert!(matches!(answer, Err(ClientError::Unreachable { .. })));
}

/// The answer of a child on its own listener to somebody with `who`'s certificate that calls itself by that name.
async fn greeted(fleet: &Fleet, who: &str, called: &str) -> std::io::Result<u32> {
    let status = fleet.meta("live", "/status").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let address = status["child_addresses"][0].as_str().unwrap();
    let address: SocketAddr = address.trim_start_matches("http://").parse().unwrap();
    let files = MemberFiles::read(&files(fleet, who)).unwrap();
    let tls = mutual_tls::client_config(&files, Expected::NodeOf(Role::Live)).unwrap();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::from(address.ip());
    let mut stream = TlsConnector::from(tls).connect(name, stream).await?;
    let hello = serde_json::json!({
        "protocol": 1, "node": called, "child": 0, "process": 7, "to_node": "live-1", "to_child": 0,
    });
    let hello = hello.to_string();
    stream.write_u32(hello.len() as u32).await?;
    stream.write_all(hello.as_bytes()).await?;
    stream.flush().await?;
    let read = tokio::time::timeout(REFUSED_MAX, stream.read_u32()).await;
    read.expect("it waits for nobody")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_a_live_node_links_to_nodes_under_their_own_names_alone() {
    let fleet = Fleet::start_with(SWAP, &["--nodes", "live=2"]).unwrap();
    for who in ["app-1", "proxy-1", "operator", "seed"] {
        let answer = greeted(&fleet, who, "live-2").await;
        assert!(answer.is_err(), "{who}: {answer:?}");
    }
    for who in ["operator", "seed"] {
        let answer = greeted(&fleet, who, who).await;
        assert!(answer.is_err(), "{who}: {answer:?}");
    }
    // Nodes of other roles may hear of keys, and no more.
    for who in ["live-2", "app-1"] {
        greeted(&fleet, who, who).await.unwrap();
    }
}

fn color(response: &Response) -> String {
    format!("{} {}", response.status, response.text().trim())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_token_is_believed_by_internal_listeners_alone_and_for_minutes() {
    let fleet = Fleet::start(SWAP).unwrap();
    let blue = active(&fleet);
    assert_eq!(fleet.push(SWAP, &["greeting=green"]).unwrap().code, 0);
    for role in ["proxy", "app"] {
        let node = fleet.node(role);
        let inner = internal(&fleet, role).await;
        let token = hop(&fleet, &node.name, &blue);
        let window: u64 = token.split(':').nth(1).unwrap().parse().unwrap();
        let old = hop_of(&fleet, &node.name, &blue, window - 60);
        let forged = token.replace(&token[token.len() - 4..], "0000");
        for (address, token, expected) in [
            (&inner, &token, "200 blue"),
            (&node.http, &token, "200 green"),
            (&node.http, &old, "200 green"),
            (&node.http, &forged, "200 green"),
        ] {
            let mut connection = Connection::open(address).await.unwrap();
            let headers = [(HOP_HEADER, token.as_str())];
            let answer = connection.request("GET", "/", &headers, b"").await.unwrap();
            assert_eq!(color(&answer), expected, "{role} {token}");
        }
        for token in [&old, &forged] {
            let mut connection = Connection::open(&inner).await.unwrap();
            let headers = [(HOP_HEADER, token.as_str())];
            let answer = connection.request("GET", "/", &headers, b"").await.unwrap();
            assert_eq!(answer.status, 503, "{role} {token}");
        }
        let refused = fleet.metric(role, "protoplex_hop_tokens_refused_total");
        assert_eq!(refused.await.unwrap(), 2.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_build_token_does_not_say_who_the_client_is() {
    let origin = Origin::answering(ok_with).await.unwrap();
    let fleet = relaying::fleet(&origin);
    let proxy = fleet.node("proxy");
    let token = hop(&fleet, &proxy.name, &active(&fleet));
    let headers = [
        (HOP_HEADER, token.as_str()),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-request-id", "mine"),
    ];
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    let answer = connection.request("GET", "/", &headers, b"").await.unwrap();
    let seen = answer.text().to_lowercase();
    assert!(seen.contains("x-forwarded-for: 127.0.0.1\r\n"), "{seen}");
    for gone in ["6.6.6.6", "mine", HOP_HEADER] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
}

const ORIGIN_HEADER: &str = "protoplex-origin";
/// How the origin's MAC counts this header.
const FORWARDED_FOR: u8 = 1;

/// What the mirror says of a part of the request.
fn shown(answer: &Response, part: &str) -> String {
    let text = answer.text();
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(&format!("{part} ")));
    found.unwrap_or_default().to_owned()
}

/// Whoever reads what passes between nodes has a token that is good for minutes, and some origin that is.
#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_origin_is_not_believed() {
    let server = Origin::answering(ok_with).await.unwrap();
    for (fleet, role) in [
        (Fleet::start("tests/builds/mirror.toml").unwrap(), "app"),
        (relaying::fleet(&server), "proxy"),
    ] {
        let node = fleet.node(role).name;
        let inner = internal(&fleet, role).await;
        let token = hop(&fleet, &node, &active(&fleet));
        let window: u64 = token.split(':').nth(1).unwrap().parse().unwrap();
        // Another one that is good as well.
        let other = hop_of(&fleet, &node, &active(&fleet), window - 1);
        let (client, lie) = ("192.0.2.7", "6.6.6.6");
        let said = format!("https {client} 4711 0123456789abcdef 1");
        let right = origin_of(
            &hop_key(&fleet, &node),
            &token,
            &said,
            &[(FORWARDED_FOR, client)],
        );
        let refused = async || {
            let count = fleet.metric(role, "protoplex_hop_origins_refused_total");
            count.await.unwrap()
        };
        for (origin, token, forwarded_for, is_right) in [
            (&right, &token, client, true),
            (&right.replace(client, lie), &token, client, false),
            (&right.replace(client, lie), &token, lie, false),
            (&right.replacen("https", "http", 1), &token, client, false),
            (
                &right.replace("0123456789abcdef", "0000000000000000"),
                &token,
                client,
                false,
            ),
            (&said.replace(client, lie), &token, client, false),
            (&right, &token, lie, false),
            (&String::new(), &token, lie, false),
            (&right, &other, client, false),
        ] {
            let before = refused().await;
            let mut connection = Connection::open(&inner).await.unwrap();
            let headers = [
                (HOP_HEADER, token.as_str()),
                (ORIGIN_HEADER, origin),
                ("x-forwarded-for", forwarded_for),
            ];
            let asked = connection.request("GET", "/x", &headers, b"").await;
            let answer = asked.unwrap();
            let text = answer.text().to_lowercase();
            // It is answered, by the build that it names; but as its sender's own.
            assert_eq!(answer.status, 200, "{origin}: {text}");
            let expected = match is_right {
                true => client,
                false => "127.0.0.1",
            };
            let id = answer.header("x-request-id") == Some("0123456789abcdef");
            assert_eq!(id, is_right, "{origin}");
            match role {
                "app" => assert_eq!(shown(&answer, "client"), expected, "{origin}"),
                // Servers behind, as apps, know a client by headers alone.
                _ => assert!(
                    text.contains(&format!("x-forwarded-for: {expected}\r\n")),
                    "{origin}: {text}"
                ),
            }
            let counted = refused().await - before;
            assert_eq!(counted, f64::from(u8::from(!is_right)), "{origin}");
        }
    }
}
