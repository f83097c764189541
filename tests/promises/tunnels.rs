//! Connections that speak something else once the server behind has agreed: both ways, blindly, to both ends.

use crate::relaying::{fleet, fleet_with};
use http_body_util::Empty;
use protoplex_tests::{Fleet, Origin, head_of, ok_with};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

const STEP_TIMEOUT: Duration = Duration::from_secs(20);
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\nfirst";

/// Asks for the protocol, with early bytes behind the head.
async fn ask(fleet: &Fleet, protocol: &str) -> TcpStream {
    let address = fleet.node("proxy").http;
    let mut client = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "GET /socket HTTP/1.1\r\nhost: {address}\r\nconnection: keep-alive, Upgrade\r\nupgrade: {protocol}\r\n\r\nearly"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client
}

async fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    timeout(STEP_TIMEOUT, stream.read_exact(&mut read))
        .await
        .unwrap()
        .unwrap();
    read
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = timeout(STEP_TIMEOUT, stream.read_to_end(&mut rest))
        .await
        .unwrap();
    rest
}

/// Agrees, then sends back whatever comes, and says goodbye when the client has ended its side.
pub(crate) async fn echo(mut stream: TcpStream) {
    let head = head_of(&mut stream).await.to_ascii_lowercase();
    assert!(
        head.contains("\r\nconnection: upgrade\r\nupgrade: websocket\r\n"),
        "{head}"
    );
    stream.write_all(SWITCH).await.unwrap();
    let mut piece = vec![0; 64 << 10];
    while let Ok(bytes) = stream.read(&mut piece).await {
        if bytes == 0 {
            break;
        }
        stream.write_all(&piece[..bytes]).await.unwrap();
    }
    stream.write_all(b"goodbye").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switched_connection_carries_bytes_both_ways_and_each_end_tells_the_other() {
    let origin = Origin::start(echo).await.unwrap();
    let fleet = fleet(&origin);
    let mut client = ask(&fleet, "websocket").await;
    let head = head_of(&mut client).await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: x",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    // What either side sent before it knew is there, and comes first.
    assert_eq!(read(&mut client, 10).await, b"firstearly");
    let message: Vec<u8> = (0..1 << 20)
        .map(|at: u32| at.to_le_bytes()[at as usize % 3])
        .collect();
    let (mut reading, mut writing) = client.split();
    let mut echoed = vec![0; message.len()];
    let (wrote, read) = tokio::join!(
        timeout(STEP_TIMEOUT, writing.write_all(&message)),
        timeout(STEP_TIMEOUT, reading.read_exact(&mut echoed))
    );
    wrote.unwrap().unwrap();
    read.unwrap().unwrap();
    assert!(echoed == message, "a message came back changed");
    // Half-closed: the other direction goes on.
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, b"goodbye");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_may_stand_in_a_list_of_protocols() {
    let origin = Origin::start(echo).await.unwrap();
    let fleet = fleet(&origin);
    for protocols in [
        "foo/1, WebSocket",
        "websocket, foo",
        "foo\r\nupgrade: websocket",
    ] {
        let mut client = ask(&fleet, protocols).await;
        let head = head_of(&mut client).await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{protocols}: {head}");
        assert_eq!(read(&mut client, 10).await, b"firstearly", "{protocols}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_requires_another_protocol_names_it() {
    let require = |_: &str| {
        "HTTP/1.1 426 Upgrade Required\r\nupgrade: TLS/1.0\r\nconnection: upgrade\r\n\
         content-length: 0\r\n\r\n"
            .to_owned()
    };
    let origin = Origin::answering(require).await.unwrap();
    let fleet = fleet(&origin);
    let mut client = ask(&fleet, "unknown").await;
    let head = head_of(&mut client).await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 426 "), "{head}");
    assert!(head.contains("\r\nupgrade: tls/1.0\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: upgrade"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_outlives_the_build_that_opened_it() {
    let origin = Origin::start(echo).await.unwrap();
    let fleet = fleet(&origin);
    let mut client = ask(&fleet, "websocket").await;
    head_of(&mut client).await;
    assert_eq!(read(&mut client, 10).await, b"firstearly");
    let said = fleet.push("tests/builds/hello.toml", &[]).unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    client.write_all(b"still here").await.unwrap();
    assert_eq!(read(&mut client, 10).await, b"still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_ends_the_client() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        head_of(&mut stream).await;
        stream.write_all(SWITCH).await.unwrap();
        read(&mut stream, 5).await;
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let mut client = ask(&fleet, "websocket").await;
    head_of(&mut client).await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, b"first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_that_no_grant_names_is_not_passed_on() {
    let origin = Origin::answering(|head| {
        let seen = head.to_ascii_lowercase().contains("upgrade");
        ok_with(&seen.to_string())
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let mut client = ask(&fleet, "h2c").await;
    let head = head_of(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(read(&mut client, 5).await, b"false");
    // What was sent for another protocol is the next request, and none.
    client.shutdown().await.unwrap();
    let answer = rest(&mut client).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_switches_unasked_is_a_502() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        head_of(&mut stream).await;
        stream.write_all(SWITCH).await.unwrap();
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let mut client = ask(&fleet, "h2c").await;
    let head = head_of(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

async fn connect(fleet: &Fleet) -> TcpStream {
    let mut client = TcpStream::connect(&fleet.node("proxy").http).await.unwrap();
    let head = b"CONNECT example.test:443 HTTP/1.1\r\nhost: example.test:443\r\n\r\nearly";
    client.write_all(head).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_is_refused_unless_it_is_granted() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        let bytes = read(&mut stream, 5).await;
        stream.write_all(&bytes).await.unwrap();
    })
    .await
    .unwrap();
    let granted = fleet_with(&[&origin.address], "", "upgrades = [\"connect\"]");
    let mut client = connect(&granted).await;
    let head = head_of(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(
        !head.to_ascii_lowercase().contains("content-length"),
        "{head}"
    );
    assert_eq!(rest(&mut client).await, b"early");
    let refused = fleet(&origin);
    let mut client = connect(&refused).await;
    let head = head_of(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
}

type Requests = hyper::client::conn::http2::SendRequest<Empty<hyper::body::Bytes>>;

/// A client of HTTP/2, as long as the task runs.
async fn http2(address: &str) -> (Requests, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (requests, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    (requests, tokio::spawn(connection))
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_by_http2_is_what_it_is_by_http1() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        let bytes = read(&mut stream, 5).await;
        stream.write_all(&bytes).await.unwrap();
    })
    .await
    .unwrap();
    let ask = |place: &str| {
        let ask = http::Request::builder().method("CONNECT").uri(place);
        ask.body(Empty::new()).unwrap()
    };
    let granted = fleet_with(&[&origin.address], "", "upgrades = [\"connect\"]");
    let (mut requests, driver) = http2(&granted.node("proxy").http).await;
    let answer = requests.send_request(ask("example.test:443"));
    let answer = timeout(STEP_TIMEOUT, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().get("content-length").is_none());
    let upgraded = hyper::upgrade::on(answer).await.unwrap();
    let mut tunnel = hyper_util::rt::TokioIo::new(upgraded);
    tunnel.write_all(b"early").await.unwrap();
    let mut rest = Vec::new();
    let read = timeout(STEP_TIMEOUT, tunnel.read_to_end(&mut rest)).await;
    read.unwrap().unwrap();
    assert_eq!(rest, b"early");
    // A place has a port.
    let answer = requests.send_request(ask("example.test"));
    let answer = timeout(STEP_TIMEOUT, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 400);
    driver.abort();
    let refused = fleet(&origin);
    let (mut requests, driver) = http2(&refused.node("proxy").http).await;
    let answer = requests.send_request(ask("example.test:443"));
    let answer = timeout(STEP_TIMEOUT, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 405);
    driver.abort();
}

/// Agrees, and resets the connection when something has come.
async fn resetting(mut stream: TcpStream) {
    head_of(&mut stream).await;
    stream.write_all(SWITCH).await.unwrap();
    read(&mut stream, 5).await;
    stream.set_zero_linger().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_resets_a_tunnel_is_a_reset_to_the_client() {
    let origin = Origin::start(resetting).await.unwrap();
    let fleet = fleet(&origin);
    let mut client = ask(&fleet, "websocket").await;
    head_of(&mut client).await;
    let mut came = Vec::new();
    let ended = timeout(STEP_TIMEOUT, client.read_to_end(&mut came)).await;
    let ended = ended.unwrap().expect_err("it is no end");
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_a_tunnel_is_a_reset_to_the_server() {
    let (ended, mut how) = tokio::sync::mpsc::unbounded_channel();
    let origin = Origin::start(move |mut stream: TcpStream| {
        let ended = ended.clone();
        async move {
            head_of(&mut stream).await;
            stream.write_all(SWITCH).await.unwrap();
            let end = stream.read_to_end(&mut Vec::new()).await;
            ended.send(end.map_err(|error| error.kind())).unwrap();
        }
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let mut client = ask(&fleet, "websocket").await;
    head_of(&mut client).await;
    assert_eq!(read(&mut client, 5).await, b"first");
    client.set_zero_linger().unwrap();
    drop(client);
    let end = timeout(STEP_TIMEOUT, how.recv()).await.unwrap();
    assert_eq!(end, Some(Err(std::io::ErrorKind::ConnectionReset)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_on_a_stream_of_http2_is_one_of_http1_to_the_server() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        let head = head_of(&mut stream).await.to_ascii_lowercase();
        assert!(head.starts_with("get /socket http/1.1\r\n"), "{head}");
        for line in [
            "\r\nconnection: upgrade\r\n",
            "\r\nupgrade: websocket\r\n",
            "\r\nsec-websocket-key: ",
            "\r\nsec-websocket-version: 13\r\n",
        ] {
            assert!(head.contains(line), "{line} in {head}");
        }
        stream.write_all(SWITCH).await.unwrap();
        let message = read(&mut stream, 4).await;
        stream.write_all(&message).await.unwrap();
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let address = fleet.node("proxy").http;
    let (mut requests, driver) = http2(&address).await;
    // The server says that it takes extended CONNECT in its first SETTINGS: any answer comes after them.
    let ask = http::Request::builder()
        .method("CONNECT")
        .uri(format!("http://{address}/socket"))
        .header("sec-websocket-version", "13")
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .body(Empty::new())
        .unwrap();
    requests.ready().await.unwrap();
    let answer = timeout(STEP_TIMEOUT, requests.send_request(ask))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().get("sec-websocket-accept").is_none());
    let upgraded = hyper::upgrade::on(answer).await.unwrap();
    let mut tunnel = hyper_util::rt::TokioIo::new(upgraded);
    let mut first = [0; 5];
    timeout(STEP_TIMEOUT, tunnel.read_exact(&mut first))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&first, b"first");
    tunnel.write_all(b"ping").await.unwrap();
    let mut rest = Vec::new();
    timeout(STEP_TIMEOUT, tunnel.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, b"ping");
    driver.abort();
}
