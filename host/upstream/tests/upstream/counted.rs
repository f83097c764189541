//! Counters of an upstream: attempts, and connections.

use crate::support::{get, group, read, send, soon, upstream};
use protoplex_upstream::Load;
use protoplex_wire::manifest::UpstreamProtocol;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

async fn head(io: &mut TcpStream) {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(io.read_u8().await.unwrap());
    }
}

#[tokio::test]
async fn attempts_at_an_absent_server_count_as_failure_and_retry() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let well = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [&dead, &well].map(|one| one.local_addr().unwrap().to_string());
    drop(dead);
    let mut upstream = upstream(UpstreamProtocol::Http1, &[]);
    upstream.addresses = addresses.to_vec();
    let group = group(&upstream);
    let serving = tokio::spawn(async move {
        let (mut io, _) = well.accept().await.unwrap();
        loop {
            head(&mut io).await;
            let answer = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
            io.write_all(answer).await.unwrap();
        }
    });
    let first = get("/");
    let counters = first.counters.clone();
    let mut second = get("/");
    second.counters = counters.clone();
    for request in [first, second] {
        assert_eq!(send(&group, request).await.unwrap().status, 503);
    }
    let failed: Vec<_> = counters.failures().filter(|(_, n)| *n > 0).collect();
    // The first or the second of them went to the one that is not there.
    let retries = counters.retries();
    assert!(retries >= 1);
    assert_eq!(failed, [("connect", retries), ("status", 2)]);
    assert_eq!(counters.requests(), 2, "retries are no requests");
    serving.abort();
}

#[tokio::test]
async fn a_connection_is_counted_busy_then_idle_then_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut upstream = upstream(UpstreamProtocol::Http1, &[]);
    upstream.addresses = vec![listener.local_addr().unwrap().to_string()];
    let group = group(&upstream);
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        head(&mut io).await;
        let part = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha";
        io.write_all(part).await.unwrap();
        gone.await.unwrap();
        io.write_all(b"lf").await.unwrap();
        io
    });
    let none = Load {
        healthy: 1,
        ..Load::default()
    };
    assert_eq!(group.load(), none);
    let reply = send(&group, get("/")).await.unwrap();
    let busy = Load {
        busy: 1,
        in_flight: 1,
        ..none
    };
    assert_eq!(group.load(), busy);
    go.send(()).unwrap();
    assert_eq!(read(reply).await.unwrap(), "half");
    assert_eq!(group.load(), Load { idle: 1, ..none });
    drop(soon(serving).await.unwrap());
    // The next request finds it closed.
    assert!(send(&group, get("/")).await.is_err());
    assert_eq!(group.load(), none);
}
