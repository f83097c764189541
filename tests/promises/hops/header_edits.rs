//! A handler's edits of a head are what the server behind, or the client, gets.

use super::{MIRROR, shown};
use protoplex_tests::{Connection, Fleet, Origin, ok_with};
use tokio::net::TcpStream;

/// Edits that a query can ask the mirror for; a header, and its values as the server behind gets them then.
const EDITS: [(&str, &str, &[&str]); 12] = [
    ("set=host:backend.example", "host", &["backend.example"]),
    ("set=x-a:1&set=X-A:2", "x-a", &["2"]),
    ("set=x-a:1&rm=x-a", "x-a", &[]),
    (
        "set=x-forwarded-proto:https",
        "x-forwarded-proto",
        &["https"],
    ),
    (
        "set=x-forwarded-for:192.0.2.1",
        "x-forwarded-for",
        &["192.0.2.1"],
    ),
    (
        "set=x-forwarded-host:shop.example",
        "x-forwarded-host",
        &["shop.example"],
    ),
    ("rm=x-forwarded-for", "x-forwarded-for", &[]),
    ("rm=x-forwarded-host", "x-forwarded-host", &[]),
    ("rm=forwarded", "forwarded", &[]),
    ("rm=traceparent", "traceparent", &[]),
    ("rm=accept", "accept", &[]),
    ("rm=x-user", "x_user", &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_relays_edits_are_what_the_server_gets_in_both_protocols() {
    for protocol in ["http1", "h2c"] {
        let origin = mirror_server(protocol == "h2c").await;
        let manifest = relaying_mirror(&origin.address, protocol);
        let fleet = Fleet::start_text(&manifest, &["--nodes", "app=0"]).unwrap();
        let said = [
            ("accept", "*/*"),
            ("x-user", "forged"),
            ("x_user", "forged"),
            ("x_forwarded_for", "6.6.6.6"),
            ("content_length", "5"),
            ("api_key", "1"),
        ];
        let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
        for (edits, name, expected) in EDITS {
            let path = format!("/x?to=origin&{edits}");
            let seen = connection.request("GET", &path, &said, b"").await.unwrap();
            assert_eq!(seen.status, 200, "{protocol} {edits}: {}", seen.text());
            assert_eq!(
                shown(&seen, name),
                expected,
                "{protocol} {edits}: {}",
                seen.text()
            );
            assert_eq!(shown(&seen, "host").len(), 1, "{protocol} {edits}");
            assert_eq!(shown(&seen, "api_key"), ["1"], "{protocol} {edits}");
            for disguised in ["x_forwarded_for", "content_length"] {
                assert!(
                    shown(&seen, disguised).is_empty(),
                    "{protocol}: {}",
                    seen.text()
                );
            }
        }
        for refused in [
            "rm=host",
            "set=host:a/b",
            "set=content-length:5",
            "set=protoplex-build:1",
        ] {
            let path = format!("/x?to=origin&{refused}");
            let answer = connection.request("GET", &path, &[], b"").await.unwrap();
            assert_eq!(
                answer.status,
                500,
                "{protocol} {refused}: {}",
                answer.text()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirects_headers_reach_the_client() {
    let fleet = Fleet::start(MIRROR).unwrap();
    let path = "/x?redirect=/home&set=cache-control:no-store&set=set-cookie:a&set=set-cookie:b";
    let answer = Connection::get_once(&fleet.node("proxy").http, path)
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, Some("/home"))
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let cookies = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie");
    assert_eq!(cookies.count(), 2);
}

/// A build whose proxy relays to a server where a query says so.
fn relaying_mirror(address: &str, protocol: &str) -> String {
    format!(
        r#"
name = "mirror"

[handlers.mirror]
component = "OUT/mirror.wasm"
grants.relay = ["origin"]

[upstreams.origin]
addresses = ["{address}"]
protocol = "{protocol}"

[[routes]]
role = "proxy"
path = "/*"
handler = "mirror"
"#
    )
}

/// A server that answers every request with the header lines that it got, names in lower case.
async fn mirror_server(http2: bool) -> Origin {
    let origin = match http2 {
        true => Origin::start(mirror_http2).await,
        false => Origin::answering(|head| ok_with(&lines_of(head))).await,
    };
    origin.unwrap()
}

fn lines_of(head: &str) -> String {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .map(|(name, value)| format!("{}: {value}\n", name.to_lowercase()))
        .collect()
}

async fn mirror_http2(stream: TcpStream) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let authority = request
            .uri()
            .authority()
            .map_or("", |authority| authority.as_str());
        let mut text = format!("host: {authority}\n");
        for (name, value) in request.headers() {
            text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
        }
        if let Ok(mut body) = respond.send_response(http::Response::new(()), false) {
            let _ = body.send_data(text.into(), true);
        }
    }
}
