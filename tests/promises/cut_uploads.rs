//! A request's body that is cut never looks whole to an app: not by HTTP/1.1 or HTTP/2, neither direct nor behind a proxy,
//! neither with the SDK nor with the standard's bindings alone.

use h2::Reason;
use http::Request;
use hyper::body::Bytes;
use protoplex_tests::{Connection, Fleet};
use std::{fs, future::poll_fn, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const CUT: &str = "tests/builds/cut.toml";
const PATIENCE: Duration = Duration::from_secs(10);
const LENGTH: &str = "content-length: 100\r\n\r\nhalf";
const CHUNKED: &str = "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";

/// How an upload ends after four bytes.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// By HTTP/1.1: what is sent behind the head, then after a moment, and whether the connection is reset or closed.
    Http1(&'static str, &'static str, bool),
    /// By HTTP/2: a reset of the stream.
    Reset(Reason),
    /// By HTTP/2: the end of the connection.
    Gone,
    /// By HTTP/2: the end of the stream, before the announced length.
    Short,
}

const ENDS: [Ends; 9] = [
    Ends::Http1(LENGTH, "", false),
    Ends::Http1(LENGTH, "", true),
    Ends::Http1(CHUNKED, "", false),
    Ends::Http1(CHUNKED, "", true),
    Ends::Http1(CHUNKED, "zz\r\n", false),
    Ends::Reset(Reason::CANCEL),
    Ends::Reset(Reason::NO_ERROR),
    Ends::Gone,
    Ends::Short,
];

/// Guests that read a body, each in its way: host and path.
const READERS: [(&str, &str); 3] = [
    ("a", "/api/upload"),
    ("a", "/api/upload-raw"),
    ("two.test", "/api/upload"),
];

/// Uploads four bytes, waits for the head of the response where the guest sends it first, and ends.
async fn cut(address: &str, host: &str, target: &str, is_told: bool, ends: Ends) {
    let stream = TcpStream::connect(address).await.unwrap();
    if let Ends::Http1(body, then, resets) = ends {
        by_http1(stream, host, target, is_told, (body, then, resets)).await;
    } else {
        by_http2(stream, host, target, is_told, ends).await;
    }
}

async fn by_http1(
    mut stream: TcpStream,
    host: &str,
    target: &str,
    is_told: bool,
    (body, then, resets): (&str, &str, bool),
) {
    let request = format!("POST {target} HTTP/1.1\r\nhost: {host}\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    if is_told {
        let mut read = Vec::new();
        while !String::from_utf8_lossy(&read).contains("reading") {
            let more = timeout(PATIENCE, stream.read_buf(&mut read)).await;
            assert_ne!(more.unwrap().unwrap(), 0, "{target}");
        }
    }
    stream.write_all(then.as_bytes()).await.unwrap();
    if resets {
        stream.set_zero_linger().unwrap();
        return;
    }
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    // Whichever way it ends.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
}

async fn by_http2(stream: TcpStream, host: &str, target: &str, is_told: bool, ends: Ends) {
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let mut request = Request::post(format!("http://{host}{target}"));
    if matches!(ends, Ends::Short) {
        request = request.header("content-length", "100");
    }
    let (response, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(Bytes::from_static(b"half"), false).unwrap();
    if is_told {
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        let piece = response.into_body().data().await;
        assert!(piece.unwrap().is_ok(), "{target}");
    }
    match ends {
        Ends::Reset(reason) => body.send_reset(reason),
        Ends::Short => body.send_data(Bytes::new(), true).unwrap(),
        _ => connection.abort(),
    }
    // Until the frame is out, and the server is told.
    let _ = timeout(
        Duration::from_millis(300),
        poll_fn(|cx| body.poll_reset(cx)),
    )
    .await;
    connection.abort();
}

/// A guest whose response has begun goes on, and is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_told_of_every_upload_that_is_cut() {
    let fleet = Fleet::start(CUT).unwrap();
    for role in ["app", "proxy"] {
        let address = fleet.node(role).http;
        for (reader, (host, path)) in READERS.into_iter().enumerate() {
            for (number, ends) in ENDS.into_iter().enumerate() {
                let name = format!("{role}-{reader}-{number}");
                let target = format!("{path}-told?{name}");
                cut(&address, host, &target, true, ends).await;
                let told = format!("upload {name}: ");
                fleet.wait_for_log(&told).await;
                let told = format!("{told}cut after 4.");
                assert!(fleet.logs().contains(&told), "{ends:?}: {}", fleet.logs());
            }
        }
    }
}

/// One whose client leaves before its response is ended, or is told.
#[tokio::test(flavor = "multi_thread")]
async fn no_upload_that_is_cut_before_a_response_looks_whole() {
    let fleet = Fleet::start(CUT).unwrap();
    for role in ["app", "proxy"] {
        let address = fleet.node(role).http;
        for (reader, (host, path)) in READERS.into_iter().enumerate() {
            for (number, ends) in ENDS.into_iter().enumerate() {
                let target = format!("{path}?{role}-{reader}-{number}");
                cut(&address, host, &target, false, ends).await;
            }
            fleet
                .wait_for_metric("app", "protoplex_in_flight", |n| n == 0.0)
                .await;
            // By now the others are logged, if they are.
            let name = format!("{role}-{reader}-whole");
            whole(&address, host, &format!("{path}?{name}")).await;
            let told = format!("upload {name}: whole after 4, passed.");
            fleet.wait_for_log(&told).await;
            for (number, ends) in ENDS.into_iter().enumerate() {
                let wrong = format!("upload {role}-{reader}-{number}: whole");
                assert!(!fleet.logs().contains(&wrong), "{ends:?}: {}", fleet.logs());
            }
        }
    }
}

/// Uploads four bytes and a trailer.
async fn whole(address: &str, host: &str, target: &str) {
    let mut connection = Connection::open(address).await.unwrap();
    let request = format!(
        "POST {target} HTTP/1.1\r\nhost: {host}\r\n{CHUNKED}0\r\nx-trailer: passed\r\n\r\n"
    );
    connection.write(request.as_bytes()).await.unwrap();
    assert_eq!(connection.response(false).await.unwrap().status, 200);
}

/// The client is there, and slow: it is told 408 where no response has begun, and the guest that of no whole body.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_told_of_an_upload_that_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let ingress = folder.path().join("ingress.json");
    let limits = r#"{"limits":{"body_timeout_ms":500,"two_way_silence_max_ms":500}}"#;
    fs::write(&ingress, limits).unwrap();
    let fleet = Fleet::start_with(CUT, &["--ingress", ingress.to_str().unwrap()]).unwrap();
    for role in ["app", "proxy"] {
        let address = fleet.node(role).http;
        for (reader, (host, path)) in READERS.into_iter().enumerate() {
            // Behind a proxy, silence beside a response is the upstream's to judge, by minutes.
            let bodies = if role == "app" { 2 } else { 1 };
            for (number, body) in [LENGTH, CHUNKED].into_iter().take(bodies).enumerate() {
                let name = format!("{role}-{reader}-{number}");
                let mut connection = Connection::open(&address).await.unwrap();
                let request = format!("POST {path}-told?{name} HTTP/1.1\r\nhost: {host}\r\n{body}");
                connection.write(request.as_bytes()).await.unwrap();
                // Whichever way it ends.
                let _ = connection.response(false).await;
                let told = format!("upload {name}: ");
                fleet.wait_for_log(&told).await;
                let told = format!("{told}cut after 4.");
                assert!(fleet.logs().contains(&told), "{name}: {}", fleet.logs());
            }
        }
    }
}
