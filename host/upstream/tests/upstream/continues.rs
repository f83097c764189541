//! Clients that wait for `100 Continue`, and servers that answer before it.

use crate::support::{get, group, soon, upstream};
use http::{Method, StatusCode};
use protoplex_http::{Answer, Body, Head, Reply, Scheme};
use protoplex_server::{Server, ServerSettings, Service};
use protoplex_upstream::{Group, Outbound};
use protoplex_wire::manifest::UpstreamProtocol;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// Relays all that comes to a group.
struct Front(Arc<Group>);

impl Service for Front {
    fn call(&self, head: &Head<'_>, body: Body) -> Answer {
        let group = Arc::clone(&self.0);
        let request = Outbound {
            head: b"PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
                .to_vec()
                .into(),
            method: Method::PUT,
            expects_continue: head.hop.expects_continue,
            body,
            ..get("/")
        };
        Answer::Later(Box::pin(async move {
            let sent = group.send(request).await;
            sent.unwrap_or_else(|_| Reply::empty(StatusCode::BAD_GATEWAY))
        }))
    }
}

async fn until(io: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        text.push(soon(io.read_u8()).await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

/// Reads what a client gets whose request a server answers with `before`, and when that is there with `no`.
async fn answered(before: &'static [u8]) -> String {
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut upstream = upstream(UpstreamProtocol::Http1, &[]);
    upstream.addresses = vec![origin.local_addr().unwrap().to_string()];
    let seen = Arc::new(Notify::new());
    let told = Arc::clone(&seen);
    tokio::spawn(async move {
        let (mut io, _) = origin.accept().await.unwrap();
        until(&mut io, "\r\n\r\n").await;
        io.write_all(before).await.unwrap();
        told.notified().await;
        io.write_all(b"no").await.unwrap();
        until(&mut io, "never").await
    });
    let server = Server::new(Arc::new(Front(group(&upstream))), ServerSettings::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    drop(server.listen(listener, Scheme::Http));
    let put = "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(put.as_bytes()).await.unwrap();
    let mut text = until(&mut client, "\r\n\r\n").await;
    if text.starts_with("HTTP/1.1 100 ") {
        text += &until(&mut client, "\r\n\r\n").await;
    }
    seen.notify_one();
    text + &until(&mut client, "no").await
}

#[tokio::test]
async fn a_body_that_the_server_refused_is_not_asked_for() {
    let text = answered(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    // The client may send it or not: nothing can follow.
    assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
    assert!(!text.contains("100 Continue"), "{text}");
}

#[tokio::test]
async fn continue_is_forwarded_before_an_early_response() {
    let text =
        answered(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
            .await;
    assert!(
        text.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "),
        "{text}"
    );
    assert!(text.ends_with("\r\n\r\nno"), "{text}");
}
