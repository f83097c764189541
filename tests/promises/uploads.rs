//! Uploads that take longer than a server or an app has for its answer: the time is the client's.

use crate::{peers::peers, relaying::fleet_with};
use protoplex_tests::{Connection, Fleet, Origin, Program, Response, read_head};
use std::{
    fs,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Longer than a server or an app of these tests has for its answer.
const UPLOAD: Duration = Duration::from_millis(2_700);
const PIECES: u32 = 9;
const PIECE: &[u8] = &[b'a'; 1_000];
/// As many failures in a row eject a server.
const UPLOADS: usize = 6;
/// Two servers that are impatient, and are ejected soon. One may go.
const IMPATIENT: &str =
    "first_byte_timeout_ms = 1000\n[upstreams.origin.ejection]\nfailures = 1\neject_ms = 60000";

/// Reads a request of known length to its end, then answers with the length; `/silent` not at all.
async fn counts(mut stream: TcpStream) {
    while let Some(head) = read_head(&mut stream).await {
        let lower = head.to_ascii_lowercase();
        let lengths = lower
            .lines()
            .filter_map(|line| line.strip_prefix("content-length: "));
        let length: usize = lengths.map(|length| length.parse::<usize>().unwrap()).sum();
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        if head.contains(" /silent ") {
            return std::future::pending().await;
        }
        let text = length.to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Uploads in pieces with pauses, as somebody on a bad network does.
async fn upload(address: &str, path: &str) -> Response {
    let mut connection = Connection::open(address).await.unwrap();
    let length = PIECE.len() * PIECES as usize;
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    connection.write(head.as_bytes()).await.unwrap();
    for _ in 0..PIECES {
        tokio::time::sleep(UPLOAD / PIECES).await;
        // Who answers early may close.
        let _ = connection.write(PIECE).await;
    }
    connection.response(false).await.unwrap()
}

/// Uploads by HTTP/2, with a client that everybody has. Returns its status.
fn upload_by_http2(address: &str, path: &str) -> String {
    let url = format!("http://{address}{path}");
    // Far more than it sends at once.
    let body = "a".repeat(150_000);
    let args = [
        "-s",
        "--http2-prior-knowledge",
        "-w",
        "%{http_code}",
        "-o",
        "/dev/null",
        "--limit-rate",
        "50000",
        "-T",
        "body",
        &url,
    ];
    let mut curl = Program::start("curl", &args, &[("body", &body)]).unwrap();
    curl.finished(Duration::from_secs(30)).unwrap()
}

async fn failures(fleet: &Fleet) -> String {
    let text = fleet.metrics_of(&fleet.node("proxy")).await.unwrap();
    let lines = text.lines().filter(|line| {
        (line.starts_with("protoplex_upstream_failures_total{")
            || line.contains("state=\"ejected\""))
            && !line.ends_with(" 0")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_arrive_and_take_no_server_out() {
    let origins = [
        Origin::start(counts).await.unwrap(),
        Origin::start(counts).await.unwrap(),
    ];
    let addresses = origins.each_ref().map(|origin| origin.address.as_str());
    let fleet = fleet_with(&addresses, IMPATIENT, "");
    let proxy = fleet.node("proxy").http;
    let uploads = (0..UPLOADS).map(|_| upload(&proxy, "/"));
    for answer in futures::future::join_all(uploads).await {
        assert_eq!((answer.status, answer.text()), (200, "9000".to_owned()));
    }
    let status = tokio::task::block_in_place(|| upload_by_http2(&proxy, "/"));
    assert_eq!(status, "200");
    // Some leave in the middle.
    for _ in 0..UPLOADS {
        let mut connection = Connection::open(&proxy).await.unwrap();
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc";
        connection.write(head).await.unwrap();
    }
    fleet
        .wait_for_metric("proxy", "protoplex_in_flight", |n| n == 0.0)
        .await;
    assert_eq!(failures(&fleet).await, "");
    // And a server that has everything and says nothing is late, and is out.
    let asked = Instant::now();
    assert_eq!(upload(&proxy, "/silent").await.status, 504);
    assert!(asked.elapsed() > UPLOAD);
    let failures = failures(&fleet).await;
    assert!(failures.contains("timeout"), "{failures}");
    assert!(failures.contains("ejected"), "{failures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_proxies_do_not_count_a_clients_time_either() {
    let origin = Origin::start(counts).await.unwrap();
    for peer in peers(&origin.address, 1_000).unwrap() {
        let answer = upload(&peer.address, "/").await;
        assert_eq!(
            (answer.status, answer.text()),
            (200, "9000".to_owned()),
            "{}",
            peer.name
        );
        assert_eq!(
            upload(&peer.address, "/silent").await.status,
            504,
            "{}",
            peer.name
        );
    }
}

/// Apps that have little time: one counts what comes, the other reads it and is silent then.
const APPS: &str = r#"
name = "uploads"

[handlers.router]
component = "OUT/router.wasm"
isolation = "shared"
grants.relay = ["role:app"]
probe.path = "/old"

[handlers.app]
component = "OUT/app.wasm"
limits.deadline_ms = 1000

[handlers.bad-app]
component = "OUT/bad-app.wasm"
isolation = "shared"
limits.deadline_ms = 1000
probe.path = "/ok"

[[routes]]
role = "proxy"
path = "/*"
handler = "router"

[[routes]]
role = "app"
path = "/api/count"
handler = "app"

[[routes]]
role = "app"
path = "/*"
handler = "bad-app"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_deadline_does_not_count_the_wait_for_its_client() {
    let fleet = Fleet::start_text(APPS, &[]).unwrap();
    for role in ["app", "proxy"] {
        let address = fleet.node(role).http;
        let answer = upload(&address, "/api/count").await;
        assert_eq!(answer.status, 200, "{role}: {}", answer.text());
        assert!(
            answer.text().contains(r#""bytes":9000,"#),
            "{}",
            answer.text()
        );
        // What the guest does with its own time is cut, after the upload or during it.
        for path in ["/api/read-then-sleep", "/api/sleep-unread"] {
            let asked = Instant::now();
            let answer = upload(&address, path).await;
            assert_eq!(answer.status, 504, "{role}{path}: {}", answer.text());
            let patience = UPLOAD + Duration::from_secs(10);
            assert!(
                asked.elapsed() < patience,
                "{role}{path}: {:?}",
                asked.elapsed()
            );
        }
    }
}

/// Uploads in two halves with a pause between them.
async fn pausing(address: &str, path: &str, pause: Duration) -> Response {
    let mut connection = Connection::open(address).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf");
    connection.write(head.as_bytes()).await.unwrap();
    tokio::select! {
        answer = connection.response(false) => return answer.unwrap(),
        () = tokio::time::sleep(pause) => {}
    }
    connection.write(b"half").await.unwrap();
    connection.response(false).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_pauses_as_phones_and_log_shippers_do_arrives() {
    const PAUSE: Duration = Duration::from_secs(14);
    let fleet = Fleet::start("builds/sample.toml").unwrap();
    let (proxy, app) = (fleet.node("proxy").http, fleet.node("app").http);
    let by_proxy = pausing(&proxy, "/api/count", PAUSE);
    let (by_proxy, by_app) = tokio::join!(by_proxy, pausing(&app, "/api/count", PAUSE));
    for answer in [by_proxy, by_app] {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains(r#""bytes":8,"#), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pace_of_a_client_is_judged_where_it_comes_in() {
    const PAUSE: Duration = Duration::from_millis(2_500);
    let folder = tempfile::tempdir().unwrap();
    let patient = "[[routes]]\nrole = \"proxy\"\npath = \"/api/count\"\nhandler = \"router\"\nbody_timeout_ms = 20000\n";
    let ingress = folder.path().join("ingress.json");
    fs::write(&ingress, r#"{"limits":{"body_timeout_ms":800}}"#).unwrap();
    let more = ["--ingress", ingress.to_str().unwrap()];
    let fleet = Fleet::start_text(&[APPS, patient].concat(), &more).unwrap();
    let (proxy, app) = (fleet.node("proxy").http, fleet.node("app").http);
    for (address, path, status) in [
        // The proxy's route allows the pause, and the app's node has no say in it.
        (&proxy, "/api/count", 200),
        (&proxy, "/api/read-then-sleep", 408),
        // Here the client comes in at the app's node.
        (&app, "/api/count", 408),
    ] {
        let answer = pausing(address, path, PAUSE).await;
        assert_eq!(answer.status, status, "{address}{path}: {}", answer.text());
    }
}
