//! What is decided where a client comes in holds on every hop, and in both protocols.

use protoplex_tests::{Connection, Fleet, Https, Origin, Response, read_head};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
};

const MIRROR: &str = "tests/builds/mirror.toml";
const SAMPLE: &str = "builds/sample.toml";

fn mirror() -> Fleet {
    Fleet::start(MIRROR).unwrap()
}

/// All lines of that name which a mirror shows.
fn shown(answer: &Response, name: &str) -> Vec<String> {
    let text = answer.text();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let own = lines.filter(|(other, _)| other.trim_end_matches(':') == name);
    own.map(|(_, value)| value.to_owned()).collect()
}

/// What comes of exactly these bytes, up to the end of the connection.
async fn raw(address: &str, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_client_gets_its_answer_through_every_hop() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let post = |path: &str| {
        let lines = "Host: a\r\nContent-Length: 5\r\nConnection: close";
        format!("POST {path} HTTP/1.1\r\n{lines}\r\n\r\nhello")
    };
    for role in ["proxy", "app"] {
        let address = fleet.node(role).http;
        for (request, end) in [
            (get("/api/hello"), "hello from app\n"),
            (get("/api/stream"), "line 10 of 10\n\r\n0\r\n\r\n"),
            (post("/api/echo"), "hello"),
            (post("/api/count"), r#"{"bytes":5,"pieces":1}"#),
        ] {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{role} {request}: {answer}");
            assert!(answer.contains(end), "{role} {request}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_client_ends_what_a_server_behind_does_for_it() {
    let gone = Arc::new(Mutex::new(None));
    let (told, end) = tokio::sync::oneshot::channel();
    *gone.lock().await = Some(told);
    let asked = Arc::new(tokio::sync::Notify::new());
    let origin = Origin::start({
        let asked = Arc::clone(&asked);
        move |mut stream: TcpStream| {
            let (gone, asked) = (Arc::clone(&gone), Arc::clone(&asked));
            async move {
                read_head(&mut stream).await;
                asked.notify_one();
                let end = stream.read_u8().await.map_err(|error| error.kind());
                if let Some(told) = gone.lock().await.take() {
                    let _ = told.send(end);
                }
            }
        }
    })
    .await
    .unwrap();
    let fleet = crate::relaying::fleet(&origin);
    let mut client = TcpStream::connect(&fleet.node("proxy").http).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    asked.notified().await;
    client.set_zero_linger().unwrap();
    drop(client);
    // A plain end would say that an answer is still wanted.
    let end = end.await.unwrap();
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_without_a_host_is_relayed_with_the_servers_own() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        let head = read_head(&mut stream).await.unwrap_or_default();
        let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{head}");
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await
    .unwrap();
    let fleet = crate::relaying::fleet(&origin);
    let proxy = fleet.node("proxy").http;
    let answer = raw(&proxy, "GET /x HTTP/1.0\r\nX-Forwarded-Host: evil\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let host = format!("\r\nhost: {}\r\n", origin.address);
    assert_eq!(answer.matches(&host).count(), 1, "{answer}");
    assert!(!answer.contains("-host:"), "{answer}");
    assert!(!answer.contains("host=") && answer.contains("for=127.0.0.1;proto=http"), "{answer}");
    let fleet = Fleet::start(SAMPLE).unwrap();
    let proxy = fleet.node("proxy").http;
    let answer = raw(&proxy, "GET /api/hello HTTP/1.0\r\n\r\n").await;
    assert!(answer.ends_with("hello from app\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_behind_a_hop_see_how_the_client_came_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ingress.json");
    std::fs::write(&file, r#"{"trust_forwarded_from":["127.0.0.0/8"]}"#).unwrap();
    let more = ["--ingress", file.to_str().unwrap()];
    let fleet = Fleet::start_with(MIRROR, &more).unwrap();
    for http2 in [false, true] {
        let https = Https::new(&fleet, "proxy", http2).unwrap();
        let address = fleet.node("proxy").https;
        let (_, seen) = https.request("GET", "/x?to=role:app", vec![]).await.unwrap();
        assert_eq!(shown(&seen, "scheme"), ["https"], "{}", seen.text());
        assert_eq!(shown(&seen, "authority"), [address.as_str()]);
        let told = seen.header("x-request-id").unwrap();
        assert_eq!(shown(&seen, "id"), [told]);
        for path in ["/api/url?to=role:app", "/02/url?to=role:app"] {
            let (_, url) = https.request("GET", path, vec![]).await.unwrap();
            assert_eq!(url.text(), format!("https://{address}{path}\n"));
        }
    }
    let https = Https::new(&fleet, "app", false).unwrap();
    let address = fleet.node("app").https;
    for path in ["/api/url", "/02/url"] {
        let (_, url) = https.request("GET", path, vec![]).await.unwrap();
        assert_eq!(url.text(), format!("https://{address}{path}\n"));
    }
    // Whom a balancer names is the client on every hop.
    let said = [
        ("x-forwarded-for", "6.6.6.6, 203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("protoplex-origin", "http 6.6.6.6 1 0000000000000000"),
    ];
    for (role, path) in [("proxy", "/x?to=role:app"), ("proxy", "/x"), ("app", "/x")] {
        let mut connection = Connection::open(&fleet.node(role).http).await.unwrap();
        let seen = connection.request("GET", path, &said, b"").await.unwrap();
        assert_eq!(shown(&seen, "client"), ["203.0.113.9"], "{role}{path}: {}", seen.text());
        assert_eq!(shown(&seen, "scheme"), ["https"], "{role}{path}");
        assert_eq!(shown(&seen, "id"), [seen.header("x-request-id").unwrap()]);
    }
}
