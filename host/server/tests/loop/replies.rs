//! Replies on the wire: without bodies, streamed, cut.

use crate::support::{Client, serve, streamed, text};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::StreamBody;
use protoplex_http::{Answer, Reply, StreamError};
use protoplex_server::HttpLimits;

type Item = Result<Frame<Bytes>, StreamError>;

fn data(text: &'static str) -> Item {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn stream_of(items: Vec<Item>) -> Reply {
    streamed(StreamBody::new(stream::iter(items)))
}

/// A stream that says how long it is.
fn announcing(bytes: &'static str, items: Vec<Item>) -> Answer {
    let value = HeaderValue::from_static(bytes);
    Answer::Ready(stream_of(items).with(header::CONTENT_LENGTH, value))
}

#[tokio::test]
async fn a_426_names_its_protocol_in_http_1_1_alone() {
    let running = serve(HttpLimits::default(), |head, _| {
        let status = match head.path {
            "/" => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::OK,
        };
        let protocol = HeaderValue::from_static("websocket");
        Answer::Ready(Reply::text(status, "").with(header::UPGRADE, protocol))
    })
    .await;
    let host = "Host: a\r\n";
    let close = "Host: a\r\nConnection: close\r\n";
    let kept = "Connection: keep-alive\r\n";
    for (line, lines, upgrade, connection) in [
        ("/ HTTP/1.1", host, Some("websocket"), Some("upgrade")),
        (
            "/ HTTP/1.1",
            close,
            Some("websocket"),
            Some("upgrade, close"),
        ),
        ("/ HTTP/1.0", "", None, Some("close")),
        ("/ HTTP/1.0", kept, None, Some("keep-alive")),
        ("/other HTTP/1.1", host, None, None),
    ] {
        let mut client = Client::to(&running).await;
        let read = client.ask(format!("GET {line}\r\n{lines}\r\n")).await;
        let said = (read.header("upgrade"), read.header("connection"));
        assert_eq!(said, (upgrade, connection), "{line} {lines:?}");
    }
    let mut client = crate::http2::plain(&running).await;
    let (status, headers, _) = client.get("http://a/").await.unwrap();
    assert_eq!((status, headers.get("upgrade")), (426, None));
}

const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn replies_without_a_body_have_none_and_the_next_one_follows() {
    let running = serve(HttpLimits::default(), |head, _| match head.path {
        "/204" => Answer::Ready(Reply::text(StatusCode::NO_CONTENT, "never")),
        "/304" => Answer::Ready(Reply::text(StatusCode::NOT_MODIFIED, "never")),
        "/204s" => {
            let mut reply = stream_of(vec![data("never")]);
            reply.status = StatusCode::NO_CONTENT;
            Answer::Ready(reply)
        }
        "/stream" => Answer::Ready(stream_of(vec![data("never")])),
        _ => text("next"),
    })
    .await;
    let mut client = Client::to(&running).await;
    for (method, path, status, length) in [
        ("GET", "/204", 204, None),
        ("GET", "/204s", 204, None),
        ("GET", "/304", 304, None),
        ("HEAD", "/", 200, Some("4")),
        ("HEAD", "/stream", 200, None),
    ] {
        client
            .send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n{NEXT}"))
            .await;
        let read = client.head().await;
        assert_eq!(
            (read.status, read.header("content-length")),
            (status, length),
            "{method} {path}"
        );
        assert_eq!(read.header("transfer-encoding"), None);
        assert_eq!(client.read().await.body, "next", "{method} {path}");
    }
}

#[tokio::test]
async fn a_stream_is_chunked_with_trailers_and_a_reply_follows() {
    let running = serve(HttpLimits::default(), |head, _| {
        if head.path == "/next" {
            return text("next");
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        let items = vec![
            data("hello, "),
            data(""),
            data("world"),
            Ok(Frame::trailers(trailers)),
        ];
        Answer::Ready(stream_of(items))
    })
    .await;
    let mut client = Client::to(&running).await;
    client
        .send(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{NEXT}"))
        .await;
    assert_eq!(
        client.head().await.header("transfer-encoding"),
        Some("chunked")
    );
    let expected = b"7\r\nhello, \r\n5\r\nworld\r\n0\r\nx-sum: 7\r\n\r\n";
    assert_eq!(client.exactly(expected.len()).await, expected);
    assert_eq!(client.read().await.body, "next");
}

#[tokio::test]
async fn a_stream_to_http_1_0_ends_with_the_connection() {
    let running = serve(HttpLimits::default(), |_, _| {
        Answer::Ready(stream_of(vec![data("hello, "), data("world")]))
    })
    .await;
    let mut client = Client::to(&running).await;
    client
        .send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!(
        (head.header("connection"), head.header("transfer-encoding")),
        (Some("close"), None)
    );
    assert_eq!(client.rest().await, Ok("hello, world".into()));
}

#[tokio::test]
async fn a_stream_that_keeps_to_its_length_keeps_the_connection() {
    let running = serve(HttpLimits::default(), |head, _| match head.path {
        "/next" => text("next"),
        _ => announcing("5", vec![data("he"), data("llo")]),
    })
    .await;
    let mut client = Client::to(&running).await;
    client
        .send(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{NEXT}"))
        .await;
    let read = client.read().await;
    assert_eq!(
        (read.header("content-length"), read.body.as_str()),
        (Some("5"), "hello")
    );
    assert_eq!(client.read().await.body, "next");
}

#[tokio::test]
async fn a_stream_of_a_false_length_is_visibly_cut() {
    let running = serve(HttpLimits::default(), |head, _| match head.path {
        "/long" => announcing("5", vec![data("hel"), data("lo, world")]),
        "/short" => announcing("5", vec![data("hel")]),
        "/error" => Answer::Ready(stream_of(vec![data("hel"), Err("broken".into())])),
        "/panic" => {
            let items = stream::iter([data("hel")]);
            let panics = stream::poll_fn(|_| panic!("in the body"));
            Answer::Ready(streamed(StreamBody::new(stream::StreamExt::chain(
                items, panics,
            ))))
        }
        _ => text("next"),
    })
    .await;
    for (path, expected) in [
        ("/long", "hel"),
        ("/short", "hel"),
        ("/error", "3\r\nhel\r\n"),
        ("/panic", "3\r\nhel\r\n"),
    ] {
        let mut client = Client::to(&running).await;
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n{NEXT}"))
            .await;
        assert_eq!(client.head().await.status, 200, "{path}");
        // Less than was announced, or no last chunk; and no reply to the next request.
        assert_eq!(client.rest().await, Ok(expected.into()), "{path}");
    }
    let mut client = Client::to(&running).await;
    assert_eq!(client.ask(NEXT).await.body, "next");
}

#[tokio::test]
async fn an_interim_status_is_no_reply() {
    let running = serve(HttpLimits::default(), |_, _| {
        Answer::Ready(Reply::empty(StatusCode::SWITCHING_PROTOCOLS))
    })
    .await;
    let mut client = Client::to(&running).await;
    let read = client.ask(NEXT).await;
    assert_eq!(
        (read.status, read.header("connection")),
        (500, Some("close"))
    );
}

#[tokio::test]
async fn large_replies_arrive_whole() {
    let body: String = (0..3_000_000)
        .map(|at: u32| char::from(b'a' + (at / 5 % 26) as u8))
        .collect();
    let running = serve(HttpLimits::default(), {
        let body = Bytes::from(body.clone());
        move |_, _| text(body.clone())
    })
    .await;
    let mut client = Client::to(&running).await;
    client.send(NEXT.repeat(2)).await;
    for _ in 0..2 {
        assert!(client.read().await.body == body);
    }
}
