//! Clients that end their sending side behind a whole request, as `nc -N` and many health checks do.

use crate::{
    support::{Client, Dropped, Running, collect, later, serve, soon, start, streamed, text},
    tls,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::StatusCode;
use http_body::Frame;
use http_body_util::StreamBody;
use parking_lot::Mutex;
use protoplex_http::{Answer, Body, Head, Reply};
use protoplex_server::HttpLimits;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

/// Long enough that the end of the client's side is seen before there is an answer.
const WORK: Duration = Duration::from_millis(50);

async fn work() {
    tokio::time::sleep(WORK).await;
}

fn answer(head: &Head<'_>, body: Body) -> Answer {
    match head.path {
        "/now" => text("now"),
        "/later" => later(async {
            work().await;
            Reply::text(StatusCode::OK, "later")
        }),
        "/body" => collect(body),
        // The body is asked for when the end behind it has long been seen.
        "/late-body" => later(async move {
            work().await;
            match collect(body) {
                Answer::Later(reply) => reply.await,
                Answer::Ready(reply) => reply,
            }
        }),
        "/unread" => later(async move {
            work().await;
            drop(body);
            Reply::text(StatusCode::OK, "unread")
        }),
        _ => {
            let pieces = stream::iter(0..3).then(|number| async move {
                work().await;
                Ok(Frame::data(Bytes::from(format!("{number}"))))
            });
            Answer::Ready(streamed(StreamBody::new(pieces)))
        }
    }
}

const REQUESTS: [(&str, &str); 9] = [
    ("GET /now HTTP/1.1\r\nHost: a\r\n\r\n", "now"),
    ("GET /later HTTP/1.1\r\nHost: a\r\n\r\n", "later"),
    ("GET /later HTTP/1.0\r\n\r\n", "later"),
    (
        "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n1\r\n2\r\n0\r\n\r\n",
    ),
    (
        "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "hello",
    ),
    (
        "POST /late-body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "hello",
    ),
    (
        "POST /late-body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "hello",
    ),
    (
        "POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "unread",
    ),
    (
        "GET /later HTTP/1.1\r\nHost: a\r\n\r\nGET /now HTTP/1.1\r\nHost: a\r\n\r\n",
        "now",
    ),
];

#[tokio::test]
async fn a_half_closed_client_gets_its_whole_answer() {
    let running = serve(HttpLimits::default(), answer).await;
    for (request, end) in REQUESTS {
        let mut client = Client::to(&running).await;
        client.send(request).await;
        client.io.shutdown().await.unwrap();
        let all = client.rest().await.unwrap();
        let answers = all.matches("HTTP/1.1 200 OK\r\n").count();
        assert_eq!(
            answers,
            request.matches("HTTP/1.").count(),
            "{request}: {all}"
        );
        assert!(all.ends_with(end), "{request}: {all}");
    }
}

#[tokio::test]
async fn a_half_closed_client_that_reads_late_gets_the_end_of_its_answer() {
    /// More than the buffers of two sockets on loopback hold, in pieces that are gathered.
    const PIECES: usize = 2_000;
    const PIECE: Bytes = Bytes::from_static(&[b'x'; 8_000]);
    let running = serve(HttpLimits::default(), |_, _| {
        let pieces = stream::iter(0..PIECES).map(|_| Ok(Frame::data(PIECE)));
        Answer::Ready(streamed(StreamBody::new(pieces)))
    })
    .await;
    let mut client = Client::to(&running).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.io.shutdown().await.unwrap();
    for _ in 0..5 {
        work().await;
    }
    let all = client.rest().await.unwrap();
    assert!(all.ends_with("\r\n0\r\n\r\n"), "it is cut");
    let (_, body) = all.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.matches('x').count(), PIECES * PIECE.len());
}

#[tokio::test]
async fn a_half_closed_client_gets_its_answer_by_tls_too() {
    for says_goodbye in [true, false] {
        let running = start(HttpLimits::default(), Some(tls::server_config()), answer).await;
        let mut client = tls::connect(&running, &["http/1.1"]).await.unwrap();
        let request = "POST /late-body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        client.write_all(request.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        if says_goodbye {
            client.shutdown().await.unwrap();
        } else {
            client.get_mut().0.shutdown().await.unwrap();
        }
        let mut answer = String::new();
        soon(client.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.ends_with("hello"), "{says_goodbye}: {answer}");
    }
}

/// A service that never answers, and what tells that it was called, and that it has ended.
async fn never() -> (Running, Arc<Notify>, tokio::sync::oneshot::Receiver<()>) {
    let (dropped, gone) = Dropped::new();
    let dropped = Mutex::new(Some(dropped));
    let called = Arc::new(Notify::new());
    let running = serve(HttpLimits::default(), {
        let called = Arc::clone(&called);
        move |_, body| {
            let (dropped, called) = (dropped.lock().take(), Arc::clone(&called));
            later(async move {
                let _kept = (dropped, body);
                called.notify_one();
                std::future::pending::<Reply>().await
            })
        }
    })
    .await;
    (running, called, gone)
}

#[tokio::test]
async fn a_reset_behind_a_half_close_ends_the_service() {
    let (running, called, gone) = never().await;
    let mut client = Client::to(&running).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.io.shutdown().await.unwrap();
    soon(called.notified()).await;
    // The server sees the end of reading alone.
    work().await;
    assert_eq!(running.server.in_flight(), 1);
    client.io.set_zero_linger().unwrap();
    drop(client);
    soon(gone).await.unwrap();
}

#[tokio::test]
async fn an_end_within_an_unread_body_ends_the_service() {
    for (line, part) in [
        ("Content-Length: 9", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n"),
    ] {
        let (running, _, gone) = never().await;
        let mut client = Client::to(&running).await;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n{part}");
        client.send(head).await;
        client.io.shutdown().await.unwrap();
        soon(gone).await.unwrap();
        assert_eq!(client.rest().await, Ok(String::new()), "{line}");
    }
}
