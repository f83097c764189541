//! Request bodies: asked for, echoed, cut short, left unread, malformed.

use crate::support::{Client, Dropped, collect, echo, later, serve, soon, streamed, text};
use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use protoplex_http::{Answer, Body, Head, Reply};
use protoplex_server::HttpLimits;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};
use tokio::io::AsyncWriteExt;

fn by_path(head: &Head<'_>, body: Body) -> Answer {
    match head.path {
        "/collect" => collect(body),
        "/echo" => echo(body),
        _ => text("done"),
    }
}

fn post(path: &str, lines: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")
}

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[tokio::test]
async fn continue_is_sent_when_the_body_is_wanted_by_http1() {
    let running = serve(HttpLimits::default(), by_path).await;
    for path in ["/collect", "/echo"] {
        let mut client = Client::to(&running).await;
        for _ in 0..2 {
            client
                .send(post(path, "Content-Length: 5\r\nExpect: 100-Continue"))
                .await;
            let told = client.exactly(CONTINUE.len()).await;
            assert_eq!(told, CONTINUE.as_bytes(), "{path}");
            let read = client.ask("hello").await;
            assert_eq!((read.status, read.body.as_str()), (200, "hello"), "{path}");
        }
    }
}

#[tokio::test]
async fn continue_is_not_sent_unasked_nor_for_an_unwanted_body() {
    let running = serve(HttpLimits::default(), by_path).await;
    let mut client = Client::to(&running).await;
    let read = client
        .ask(post("/collect", "Content-Length: 5") + "hello")
        .await;
    assert_eq!(read.status, 200);
    // It may or may not send the body now: nothing can follow.
    let read = client
        .ask(post("/", "Content-Length: 5\r\nExpect: 100-continue"))
        .await;
    assert_eq!(
        (read.status, read.header("connection")),
        (200, Some("close"))
    );
    assert_eq!(client.rest().await, Ok(String::new()));
    // HTTP/1.0 knows of no interim replies.
    let mut client = Client::to(&running).await;
    let old = "POST /collect HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi";
    assert_eq!(client.ask(old).await.status, 200);
}

#[tokio::test]
async fn megabytes_come_back_as_they_went() {
    let running = serve(HttpLimits::default(), by_path).await;
    let body: Vec<u8> = (0..4_000_000)
        .map(|at: u32| b'a' + (at / 7 % 26) as u8)
        .collect();
    for lines in [
        format!("Content-Length: {}", body.len()),
        "Transfer-Encoding: chunked".into(),
    ] {
        let client = Client::to(&running).await;
        let chunked = lines.starts_with('T');
        let mut sent = post("/echo", &lines).into_bytes();
        for piece in body.chunks(50_000) {
            let size = format!("{:x}\r\n", piece.len());
            let (before, after) = if chunked {
                (size.as_bytes(), &b"\r\n"[..])
            } else {
                (&b""[..], &b""[..])
            };
            sent.extend([before, piece, after].concat());
        }
        if chunked {
            sent.extend(b"0\r\n\r\n");
        }
        let (mut client, mut write) = client.split();
        let sending = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write
        });
        let read = client.read().await;
        assert!(
            read.body.as_bytes() == body,
            "{} of {} bytes came back",
            read.body.len(),
            body.len()
        );
        // A chunked body's length is not known, so its echo is chunked as well.
        assert_eq!(read.header("transfer-encoding").is_some(), chunked);
        sending.await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_reader_holds_the_client_back() {
    let taken = Arc::new(AtomicUsize::new(0));
    let (go, wait) = tokio::sync::watch::channel(false);
    let running = serve(HttpLimits::default(), {
        let taken = Arc::clone(&taken);
        move |_: &Head<'_>, mut body: Body| {
            let (taken, mut wait) = (Arc::clone(&taken), wait.clone());
            later(async move {
                let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
                taken.fetch_add(first.len(), Relaxed);
                wait.wait_for(|go| *go).await.unwrap();
                while let Some(frame) = body.frame().await {
                    taken.fetch_add(frame.unwrap().into_data().unwrap().len(), Relaxed);
                }
                Reply::text(StatusCode::OK, "all")
            })
        }
    })
    .await;
    let mut client = Client::to(&running).await;
    let whole = 64 << 20;
    client
        .send(post("/", &format!("Content-Length: {whole}")))
        .await;
    let (piece, mut sent) = (vec![b'x'; 64 << 10], 0);
    // Until the sockets' buffers are full and stay so.
    while let Ok(wrote) = tokio::time::timeout(
        std::time::Duration::from_millis(300),
        client.io.write(&piece),
    )
    .await
    {
        sent += wrote.unwrap();
        assert!(sent < whole / 2, "the server takes what nobody reads");
    }
    assert!(taken.load(Relaxed) <= 64 << 10);
    go.send(true).unwrap();
    while sent < whole {
        let most = piece.len().min(whole - sent);
        sent += soon(client.io.write(&piece[..most])).await.unwrap();
    }
    assert_eq!(client.read().await.body, "all");
    assert_eq!(taken.load(Relaxed), whole);
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_an_error_and_never_a_reply() {
    for (lines, part) in [
        ("Content-Length: 9", "hello"),
        ("Transfer-Encoding: chunked", "9\r\nhello"),
    ] {
        let (dropped, gone) = Dropped::new();
        let dropped = parking_lot::Mutex::new(Some(dropped));
        let running = serve(HttpLimits::default(), move |_, body| {
            let dropped = dropped.lock().take();
            later(async move {
                let whole = body.collect().await;
                assert!(whole.is_err(), "half a body was taken for a whole one");
                drop(dropped);
                Reply::text(StatusCode::OK, "")
            })
        })
        .await;
        let mut client = Client::to(&running).await;
        client.send(post("/", lines) + part).await;
        client.io.shutdown().await.unwrap();
        assert_eq!(client.rest().await, Ok(String::new()), "{lines}");
        soon(gone).await.unwrap();
    }
}

#[tokio::test]
async fn a_short_body_that_nobody_read_is_read_and_thrown_away() {
    let running = serve(HttpLimits::default(), by_path).await;
    let mut client = Client::to(&running).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    for _ in 0..2 {
        let request = post("/", &format!("Content-Length: {}", smuggled.len())) + &smuggled;
        let read = client.ask(request).await;
        assert_eq!(
            (read.body.as_str(), read.header("connection")),
            ("done", None)
        );
        let chunk = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
        let read = client
            .ask(post("/", "Transfer-Encoding: chunked") + &chunk)
            .await;
        assert_eq!(
            (read.body.as_str(), read.header("connection")),
            ("done", None)
        );
    }
}

#[tokio::test]
async fn a_long_unread_body_closes_and_the_reply_arrives() {
    let limits = HttpLimits {
        drain_bytes_max: 1000,
        ..HttpLimits::default()
    };
    let running = serve(limits, by_path).await;
    let body = "x".repeat(200_000);
    let known = post("/", &format!("Content-Length: {}", body.len())) + &body;
    let unknown = post("/", "Transfer-Encoding: chunked")
        + &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (request, announced) in [(known, Some("close")), (unknown, None)] {
        let mut client = Client::to(&running).await;
        client
            .send(request + "GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        let read = client.read().await;
        assert_eq!(
            (read.body.as_str(), read.header("connection")),
            ("done", announced)
        );
        assert_eq!(client.rest().await, Ok(String::new()));
        assert!(client.is_heard_out().await);
    }
}

#[tokio::test]
async fn nothing_is_taken_for_a_request_after_a_malformed_body() {
    let running = serve(HttpLimits::default(), by_path).await;
    let bad = "2\r\nhi\r\nzz\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (path, expected) in [
        ("/collect", Some(400)),
        ("/echo", Some(200)),
        ("/", Some(200)),
    ] {
        let mut client = Client::to(&running).await;
        client
            .send(post(path, "Transfer-Encoding: chunked") + bad)
            .await;
        let text = client.rest().await.unwrap_or_default();
        let statuses = text.matches("HTTP/1.1 ").count();
        let status = text.get(9..12).map(|status| status.parse().unwrap());
        assert_eq!((statuses, status), (1, expected), "{path}: {text}");
        // What was begun is not ended as if it were whole.
        assert!(!text.ends_with("0\r\n\r\n"), "{path}");
    }
}

/// Streams nothing, but waits for the request's body, and takes its failure for an end.
fn swallow(mut body: Body) -> Answer {
    let ended = stream::poll_fn(move |cx| {
        let frame = std::task::ready!(Pin::new(&mut body).poll_frame(cx));
        Poll::Ready(
            frame
                .and_then(Result::ok)
                .map(|_| Ok(Frame::data(Bytes::new()))),
        )
    });
    Answer::Ready(streamed(StreamBody::new(ended)))
}

#[tokio::test]
async fn the_rest_of_a_failed_body_is_never_a_request() {
    let limits = HttpLimits {
        body_timeout: std::time::Duration::from_millis(60),
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, body| swallow(body)).await;
    for (lines, part) in [
        ("Transfer-Encoding: chunked", "2\r\nhi\r\nzz\r\n"),
        // A body of unknown length would be one side of a conversation, and may pause.
        ("Content-Length: 500", "hi"),
    ] {
        let mut client = Client::to(&running).await;
        let read = client.ask(post("/", lines) + part).await;
        assert_eq!(read.status, 200);
        // It may be too late to send.
        let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let _ = client.io.write_all(smuggled).await;
        assert_eq!(client.rest().await.unwrap_or_default(), "", "{part:?}");
    }
}
