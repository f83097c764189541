//! Draining: what is in flight ends well, what is idle ends now.

use crate::{
    http2,
    support::{Client, Running, later, serve, soon, start, text},
    tls::{connect_over, server_config},
};
use protoplex_http::Reply;
use protoplex_server::HttpLimits;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy_bidirectional, duplex},
    net::TcpStream,
    sync::Notify,
};
use tokio_rustls::client::TlsStream;

/// A client far away: its request comes that long after its handshake.
const ROUND_TRIP: Duration = Duration::from_millis(100);

#[tokio::test]
async fn drain_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let (called, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let running = serve(HttpLimits::default(), {
        let (called, go) = (Arc::clone(&called), Arc::clone(&go));
        move |head, _| {
            if head.path != "/slow" {
                return text("quick");
            }
            let (called, go) = (Arc::clone(&called), Arc::clone(&go));
            later(async move {
                called.notify_one();
                go.notified().await;
                Reply::text(http::StatusCode::OK, "slow")
            })
        }
    })
    .await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut fresh, mut idle, mut slow) = (
        Client::to(&running).await,
        Client::to(&running).await,
        Client::to(&running).await,
    );
    idle.ask(get("/")).await;
    let mut half = Client::to(&running).await;
    half.ask(get("/")).await;
    half.send("GET / HTTP/1.1\r\n").await;
    slow.send(get("/slow")).await;
    soon(called.notified()).await;
    running.server.drain();
    assert_eq!(idle.rest().await, Ok(String::new()));
    assert_eq!(fresh.rest().await, Ok(String::new()));
    // A request that has begun to come is no idle connection.
    half.send("Host: a\r\n\r\n").await;
    let read = half.read().await;
    assert_eq!(
        (read.body.as_str(), read.header("connection")),
        ("quick", Some("close"))
    );
    assert_eq!(half.rest().await, Ok(String::new()));
    assert_eq!(running.server.in_flight(), 1);
    go.notify_one();
    let read = slow.read().await;
    assert_eq!(
        (read.body.as_str(), read.header("connection")),
        ("slow", Some("close"))
    );
    assert_eq!(slow.rest().await, Ok(String::new()));
    soon(running.server.drained()).await;
    assert_eq!(
        (running.server.connections(), running.server.in_flight()),
        (0, 0)
    );
    // Nobody listens any more.
    assert!(tokio::net::TcpStream::connect(running.at).await.is_err());
}

/// A client who is in the middle of a handshake when the drain begins, and what comes of it.
async fn drained_in_handshake(running: &Running, protocol: &str) -> TlsStream<DuplexStream> {
    let (near, mut far) = duplex(64 << 10);
    let mut io = TcpStream::connect(running.at).await.unwrap();
    let passing = async {
        let mut first = [0; 16];
        far.read_exact(&mut first).await.unwrap();
        io.write_all(&first).await.unwrap();
        while running.server.connections() == 0 {
            tokio::task::yield_now().await;
        }
        running.server.drain();
        tokio::time::sleep(ROUND_TRIP).await;
        tokio::spawn(async move { drop(copy_bidirectional(&mut far, &mut io).await) });
    };
    let protocols = [protocol];
    let (client, ()) = tokio::join!(connect_over(near, &protocols), passing);
    tokio::time::sleep(ROUND_TRIP).await;
    client.unwrap()
}

#[tokio::test]
async fn a_handshake_begun_before_a_drain_gets_one_response() {
    let running = start(HttpLimits::default(), Some(server_config()), |_, _| {
        text("hi")
    })
    .await;
    let mut client = drained_in_handshake(&running, "http/1.1").await;
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(get).await.unwrap();
    let mut text = String::new();
    soon(client.read_to_string(&mut text)).await.unwrap();
    assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\nhi"), "{text}");
    soon(running.server.drained()).await;
}

#[tokio::test]
async fn http2_agreed_in_a_drain_gets_a_response_and_goaway() {
    let running = start(HttpLimits::default(), Some(server_config()), |_, _| {
        text("hi")
    })
    .await;
    let tls = drained_in_handshake(&running, "h2").await;
    let mut client = http2::client(tls).await;
    assert_eq!(client.get("https://a/").await.unwrap().2, "hi");
    soon(running.server.drained()).await;
    assert!(client.get("https://a/").await.is_err());
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_handshake_that_nobody_began() {
    let running = start(HttpLimits::default(), Some(server_config()), |_, _| {
        text("hi")
    })
    .await;
    let mut client = Client::to(&running).await;
    while running.server.connections() == 0 {
        tokio::task::yield_now().await;
    }
    let began = std::time::Instant::now();
    running.server.drain();
    assert_eq!(client.rest().await, Ok(String::new()));
    assert!(began.elapsed() < HttpLimits::default().net.handshake_timeout / 2);
}
