//! Pages of browsers: which of them may connect, and what a WebSocket of theirs is told to speak.

use super::{board::Sample, fleet, swaps::Variant, transports::POLL};
use protoplex_tests::{Browser, Connection, Fleet, Response, Socket};
use serde_json::{Value, json};

const LISTED: (&str, &str) = ("origin", "https://app.test");
const FOREIGN: (&str, &str) = ("origin", "https://evil.test");
const EVENTS: (&str, &str) = ("accept", "text/event-stream");

/// The tests' build with these lines in `[live]`.
fn build(lines: &str) -> Variant {
    Variant::new(&[("ping_ms = 1000", &format!("ping_ms = 1000\n{lines}"))])
}

fn started(build: &Variant) -> Fleet {
    Fleet::start_with(build.path(), &["--nodes", "app=0,live=1"]).unwrap()
}

async fn ask(address: &str, method: &str, headers: &[(&str, &str)]) -> Response {
    let mut connection = Connection::open(address).await.unwrap();
    let body: &[u8] = if method == "POST" { b"[]" } else { b"" };
    let answer = connection.request(method, "/count", headers, body).await;
    answer.unwrap()
}

/// The head of an event stream, which has no end.
async fn head_of_events(address: &str, origin: (&str, &str)) -> String {
    let mut connection = Connection::open(address).await.unwrap();
    let head = format!(
        "GET /count HTTP/1.1\r\nhost: {address}\r\naccept: {}\r\n{}: {}\r\n\r\n",
        EVENTS.1, origin.0, origin.1
    );
    connection.write(head.as_bytes()).await.unwrap();
    let head = connection.take_until(b"\r\n\r\n").await.unwrap();
    head.to_ascii_lowercase()
}

fn shared_with<'a>(response: &'a Response, origin: &str) -> &'a Response {
    assert_eq!(
        response.header("access-control-allow-origin"),
        Some(origin),
        "{response:?}"
    );
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_foreign_origin_may_not_connect_by_any_transport() {
    let fleet = fleet();
    let (proxy, live) = (fleet.node("proxy").http, fleet.node("live"));
    for address in [&proxy, &live.http] {
        let own = format!("http://{address}");
        for (origin, may) in [
            ((FOREIGN.0, own.as_str()), true),
            (FOREIGN, false),
            (("origin", "null"), false),
        ] {
            let socket = Socket::open_with(address, "/count", &[origin]).await;
            assert_eq!(socket.is_ok(), may, "{origin:?}");
            let polled = ask(address, "POST", &[POLL, origin]).await;
            assert_eq!(polled.status == 200, may, "{origin:?}: {polled:?}");
            let events = head_of_events(address, origin).await;
            assert_eq!(events.starts_with("http/1.1 200"), may, "{origin:?}");
            assert_eq!(polled.header("access-control-allow-origin"), None);
            let preflight = [origin, ("access-control-request-method", "POST")];
            let preflight = ask(address, "OPTIONS", &preflight).await;
            assert_eq!(preflight.header("access-control-allow-origin"), None);
        }
    }
    // Three transports and a preflight, of two origins, at two addresses.
    let refused = fleet.refused(&live, "live-origin").await.unwrap();
    assert_eq!(refused, 16.0);
    // A client that is no browser's says nothing of origins.
    assert!(Socket::open(&proxy, "/count").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_listed_origin_may_connect_by_every_transport() {
    let fleet = started(&build(r#"origins = ["https://app.test"]"#));
    let address = fleet.node("proxy").http;
    let socket = Socket::open_with(&address, "/count", &[LISTED]).await;
    assert!(socket.is_ok());
    let polled = ask(&address, "POST", &[POLL, LISTED]).await;
    assert_eq!(shared_with(&polled, LISTED.1).status, 200);
    assert_eq!(
        polled.header("access-control-allow-credentials"),
        Some("true")
    );
    assert_eq!(polled.header("vary"), Some("origin"));
    let opened: Value = serde_json::from_slice(&polled.body).unwrap();
    let session = opened[0]["welcome"]["session"].as_str().unwrap();
    let named = [POLL, LISTED, ("protoplex-session", session)];
    shared_with(&ask(&address, "POST", &named).await, LISTED.1);
    shared_with(&ask(&address, "GET", &named).await, LISTED.1);
    let events = head_of_events(&address, LISTED).await;
    assert!(events.contains("access-control-allow-origin: https://app.test\r\n"));
    let preflight = [
        LISTED,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "protoplex-session"),
    ];
    let preflight = ask(&address, "OPTIONS", &preflight).await;
    assert_eq!(shared_with(&preflight, LISTED.1).status, 204);
    for (name, value) in [
        ("access-control-allow-headers", "protoplex-session"),
        ("access-control-allow-methods", "GET, POST"),
        ("access-control-allow-credentials", "true"),
    ] {
        assert_eq!(preflight.header(name), Some(value), "{name}");
    }
    assert_eq!(ask(&address, "POST", &[POLL, FOREIGN]).await.status, 403);
    // The client itself is for every page.
    let mut connection = Connection::open(&fleet.node("live").http).await.unwrap();
    let client = connection
        .request("GET", "/_live/client.js", &[FOREIGN], b"")
        .await;
    assert_eq!(shared_with(&client.unwrap(), "*").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_told_the_first_subprotocol_that_the_build_lists() {
    let fleet = started(&build(r#"subprotocols = ["mqtt", "graphql-transport-ws"]"#));
    let address = fleet.node("proxy").http;
    for (offered, told) in [
        ("mqtt", Some("mqtt")),
        (
            "chat.v1, graphql-transport-ws, mqtt",
            Some("graphql-transport-ws"),
        ),
        ("protoplex.v1, mqtt", Some("protoplex.v1")),
        ("chat.v1", None),
    ] {
        let mut connection = Connection::open(&address).await.unwrap();
        let head = format!(
            "GET /count HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             sec-websocket-protocol: {offered}\r\n\r\n"
        );
        connection.write(head.as_bytes()).await.unwrap();
        let response = connection.response(true).await.unwrap();
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(response.header("sec-websocket-protocol"), told, "{offered}");
    }
}

/// `localhost` and `127.0.0.1` are two origins to a browser, and one server.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_a_browser_connects_to_another_origin_once_that_is_listed() {
    let more = ["--nodes", "app=0,live=1"];
    let fleet = Fleet::start_with(&Sample::new(&[]).path(), &more).unwrap();
    let address = fleet.node("proxy").http;
    let port = address.rsplit(':').next().unwrap();
    let browser = Browser::start().await.unwrap();
    let page = format!("http://localhost:{port}/style.css");
    let mut page = browser.open(&page).await.unwrap();
    let connect = |transport: &str| {
        format!(
            "(async () => {{ \
               const {{ connect }} = await import('http://127.0.0.1:{port}/_live/client.js'); \
               const live = connect('http://127.0.0.1:{port}/board?name=far', \
                 {{ transports: ['{transport}'], credentials: true }}); \
               const first = await new Promise((done) => {{ live.onState = (state) => done(state); }}); \
               if (first === 'connected') await live.send('ask'); \
               live.close(); return first; }})()"
        )
    };
    for transport in ["websocket", "sse", "poll"] {
        let state = page.value(&connect(transport)).await.unwrap();
        assert_ne!(state, json!("connected"), "{transport}");
    }
    let origins =
        format!("[live]\norigins = [\"http://localhost:{port}\"]\n\n[live.namespaces.board]");
    let listed = Sample::new(&[("[live.namespaces.board]", &origins)]);
    let pushed = fleet.push(&listed.path(), &[]).unwrap();
    assert_eq!(pushed.code, 0, "{}{}", pushed.out, pushed.err);
    for transport in ["websocket", "sse", "poll"] {
        let state = page.value(&connect(transport)).await.unwrap();
        assert_eq!(state, json!("connected"), "{transport}");
    }
    // Subprotocols are told as browsers want it: they fail where none is chosen.
    let speak = format!(
        "new Promise((done) => {{ const socket = new WebSocket('ws://127.0.0.1:{port}/board?name=far', ['mqtt']); \
         socket.onopen = () => done(socket.protocol); socket.onerror = () => done('failed'); }})"
    );
    assert_eq!(page.value(&speak).await.unwrap(), json!("failed"));
    let origins = origins.replace("[live]", "[live]\nsubprotocols = [\"mqtt\"]");
    let speaking = Sample::new(&[("[live.namespaces.board]", &origins)]);
    let pushed = fleet.push(&speaking.path(), &[]).unwrap();
    assert_eq!(pushed.code, 0, "{}{}", pushed.out, pushed.err);
    assert_eq!(page.value(&speak).await.unwrap(), json!("mqtt"));
}
