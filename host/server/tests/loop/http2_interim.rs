//! HTTP/2: what reaches a client before the answer, what follows its body, and what is no agreement.

use crate::support::{Running, collect, echo, later, serve, soon, streamed, text};
use bytes::Bytes;
use futures::stream;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use protoplex_http::{Answer, HeaderLines, Interim, Reply, StreamError};
use protoplex_server::HttpLimits;
use std::{future::poll_fn, sync::Arc};
use tokio::{net::TcpStream, sync::Notify};

async fn connect(running: &Running) -> SendRequest<Bytes> {
    let io = TcpStream::connect(running.at).await.unwrap();
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    soon(send.ready()).await.unwrap()
}

fn post() -> http::request::Builder {
    Request::post("http://a/")
}

/// The next interim answer; `None` where the final one is there.
async fn interim(answer: &mut ResponseFuture) -> Option<Response<()>> {
    let interim = soon(poll_fn(|cx| answer.poll_informational(cx))).await;
    interim.map(Result::unwrap)
}

#[tokio::test]
async fn early_hints_reach_the_client_before_the_answer() {
    let go = Arc::new(Notify::new());
    let running = serve(HttpLimits::default(), {
        let go = Arc::clone(&go);
        move |head, _| {
            let mut lines = HeaderLines::default();
            lines.push(b"link", b"</a.css>; rel=preload");
            let status = StatusCode::EARLY_HINTS;
            head.hop.interims.unwrap().push(Interim { status, lines });
            let go = Arc::clone(&go);
            later(async move {
                go.notified().await;
                Reply::text(StatusCode::OK, "late")
            })
        }
    })
    .await;
    let mut send = connect(&running).await;
    let (mut answer, _) = send.send_request(post().body(()).unwrap(), true).unwrap();
    let hints = interim(&mut answer).await.unwrap();
    assert_eq!(hints.status(), 103);
    let headers: Vec<_> = hints.headers().iter().collect();
    assert_eq!(headers.len(), 1, "{headers:?}");
    assert_eq!(hints.headers()["link"], "</a.css>; rel=preload");
    go.notify_one();
    assert!(interim(&mut answer).await.is_none());
    assert_eq!(soon(answer).await.unwrap().status(), 200);
}

#[tokio::test]
async fn continue_is_sent_when_the_body_is_wanted_by_http2() {
    let running = serve(HttpLimits::default(), |head, body| {
        let reply = Reply::empty(StatusCode::EXPECTATION_FAILED);
        match head.header_str("x-unwanted") {
            Some(_) => later(async { reply }),
            None => collect(body),
        }
    })
    .await;
    let mut send = connect(&running).await;
    let waits = || post().header("expect", "100-continue");
    let (mut answer, mut body) = send.send_request(waits().body(()).unwrap(), false).unwrap();
    assert_eq!(interim(&mut answer).await.unwrap().status(), 100);
    body.send_data("body".into(), true).unwrap();
    assert!(interim(&mut answer).await.is_none(), "it is asked once");
    let mut answer = soon(answer).await.unwrap();
    assert_eq!(
        soon(answer.body_mut().data()).await.unwrap().unwrap(),
        "body"
    );
    let unwanted = waits().header("x-unwanted", "").body(()).unwrap();
    let (mut answer, _body) = send.send_request(unwanted, false).unwrap();
    assert!(interim(&mut answer).await.is_none());
    assert_eq!(soon(answer).await.unwrap().status(), 417);
}

#[tokio::test]
async fn continue_comes_before_a_reply_that_is_made_of_the_body() {
    let running = serve(HttpLimits::default(), |head, body| {
        if head.header_str("x-unwanted").is_none() {
            return echo(body);
        }
        drop(body);
        let frames = [Ok::<_, StreamError>(Frame::data(Bytes::from("no")))];
        Answer::Ready(streamed(StreamBody::new(stream::iter(frames))))
    })
    .await;
    let mut send = connect(&running).await;
    let waits = || post().header("expect", "100-continue");
    let (mut answer, mut body) = send.send_request(waits().body(()).unwrap(), false).unwrap();
    assert_eq!(interim(&mut answer).await.unwrap().status(), 100);
    assert!(interim(&mut answer).await.is_none(), "it is asked once");
    body.send_data("body".into(), true).unwrap();
    let mut echoed = soon(answer).await.unwrap().into_body();
    assert_eq!(soon(echoed.data()).await.unwrap().unwrap(), "body");
    let unwanted = waits().header("x-unwanted", "").body(()).unwrap();
    let (mut answer, _body) = send.send_request(unwanted, false).unwrap();
    assert!(interim(&mut answer).await.is_none());
    assert_eq!(soon(answer).await.unwrap().status(), 200);
}

#[tokio::test]
async fn trailers_follow_a_body_without_what_belongs_in_a_head() {
    let running = serve(HttpLimits::default(), |_, _| {
        let mut trailers = HeaderMap::new();
        for (name, value) in [("x-sum", "1"), ("connection", "x"), ("content-length", "9")] {
            trailers.insert(name, value.parse().unwrap());
        }
        let frames = [Frame::data(Bytes::from("hi")), Frame::trailers(trailers)];
        let frames = frames.map(Ok::<_, StreamError>);
        Answer::Ready(streamed(StreamBody::new(stream::iter(frames))))
    })
    .await;
    let mut send = connect(&running).await;
    let (answer, _) = send.send_request(post().body(()).unwrap(), true).unwrap();
    let mut body = soon(answer).await.unwrap().into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "hi");
    assert!(soon(body.data()).await.is_none());
    let trailers = soon(body.trailers()).await.unwrap().unwrap();
    let names: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-sum"]);
}

#[tokio::test]
async fn an_early_response_ends_the_stream_without_a_fault() {
    let running = serve(HttpLimits::default(), |_, _| text("early")).await;
    let mut send = connect(&running).await;
    let (answer, mut body) = send.send_request(post().body(()).unwrap(), false).unwrap();
    let mut answer = soon(answer).await.unwrap();
    assert_eq!(
        soon(answer.body_mut().data()).await.unwrap().unwrap(),
        "early"
    );
    let why = soon(poll_fn(|cx| body.poll_reset(cx))).await.unwrap();
    assert_eq!(why, h2::Reason::NO_ERROR);
}

#[tokio::test]
async fn an_extended_connect_without_agreement_gets_no_success() {
    let running = serve(HttpLimits::default(), |head, _| {
        assert_eq!((head.method, head.hop.upgrade), ("GET", Some("websocket")));
        text("a page")
    })
    .await;
    let mut send = connect(&running).await;
    while !send.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let mut request = Request::connect("http://a/").body(()).unwrap();
    let protocol = h2::ext::Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    let (answer, _body) = send.send_request(request, false).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 501);
}
