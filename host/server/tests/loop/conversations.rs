//! Requests that go on while their response does: who is silent in a conversation owes nothing.

use crate::support::{Client, Running, collect, echo, serve, soon, streamed};
use bytes::Bytes;
use futures::{StreamExt, stream};
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use protoplex_http::{Answer, Body, Head, StreamError};
use protoplex_server::{HttpCause, HttpLimits};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const TINY: Duration = Duration::from_millis(60);

/// A body that is waited for has to come at once, and fast.
fn impatient() -> HttpLimits {
    HttpLimits {
        body_timeout: TINY,
        body_grace: TINY,
        body_bytes_per_s_min: 10_000,
        ..HttpLimits::default()
    }
}

async fn connect(running: &Running) -> SendRequest<Bytes> {
    let io = TcpStream::connect(running.at).await.unwrap();
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    send
}

async fn begun(running: &Running) -> (SendStream<Bytes>, Response<RecvStream>) {
    let mut send = connect(running).await;
    let request = Request::post("http://a/").body(()).unwrap();
    let (answer, body) = send.send_request(request, false).unwrap();
    (body, soon(answer).await.unwrap())
}

#[tokio::test]
async fn a_two_way_stream_of_http2_outlives_its_clients_silence() {
    let running = serve(impatient(), |_, body| echo(body)).await;
    let (mut send, mut answer) = begun(&running).await;
    for word in ["a", "b"] {
        tokio::time::sleep(TINY * 5).await;
        send.send_data(word.into(), false).unwrap();
        let heard = soon(answer.body_mut().data()).await.unwrap().unwrap();
        assert_eq!(heard, word);
    }
    send.send_data("end".into(), true).unwrap();
    assert_eq!(
        soon(answer.body_mut().data()).await.unwrap().unwrap(),
        "end"
    );
    assert!(soon(answer.body_mut().data()).await.is_none());
    assert_eq!(running.server.counters().of(HttpCause::SlowBody), 0);
}

#[tokio::test]
async fn a_two_way_exchange_of_http1_outlives_its_clients_silence() {
    let running = serve(impatient(), |_, body| echo(body)).await;
    let mut client = Client::to(&running).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for word in ["a", "b"] {
        client.send(&format!("1\r\n{word}\r\n")).await;
        tokio::time::sleep(TINY * 5).await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.read().await.body, "ab");
    assert_eq!(running.server.counters().of(HttpCause::SlowBody), 0);
}

#[tokio::test]
async fn a_body_that_an_answer_waits_for_is_still_owed() {
    let running = serve(impatient(), |_, body| collect(body)).await;
    let mut send = connect(&running).await;
    let request = Request::post("http://a/").body(()).unwrap();
    let (answer, mut body) = send.send_request(request, false).unwrap();
    body.send_data("a".into(), false).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 408);
    assert_eq!(running.server.counters().of(HttpCause::SlowBody), 1);
}

#[tokio::test]
async fn a_body_of_known_length_is_owed_beside_its_answer_too() {
    let running = serve(impatient(), |_, body| echo(body)).await;
    let mut send = connect(&running).await;
    let request = Request::post("http://a/").header("content-length", "5");
    let (answer, _body) = send.send_request(request.body(()).unwrap(), false).unwrap();
    let mut answer = soon(answer).await.unwrap();
    assert!(soon(answer.body_mut().data()).await.unwrap().is_err());
}

/// Time for which both sides of a conversation may be silent, and a pause within it.
const SILENCE: Duration = Duration::from_millis(1_500);
const PAUSE: Duration = Duration::from_millis(300);
/// Pauses that are longer than the limit, all together.
const PAUSES: usize = 7;

/// Says every word at once that it hears; listens to the end and then says how much it heard; says a word after each
/// pause while it listens; or speaks once, after all pauses, and listens to nobody.
fn converses(head: &Head<'_>, body: Body) -> Answer {
    let word = || Ok::<_, StreamError>(Frame::data(Bytes::from_static(b"tick")));
    let paused = |pauses: u32| async move { tokio::time::sleep(PAUSE * pauses).await };
    let heard = |body: Body| async move { body.collect().await.unwrap().to_bytes().len() };
    match head.path {
        "/listens" => Answer::Ready(streamed(StreamBody::new(stream::once(async move {
            let said = heard(body).await.to_string();
            Ok::<_, StreamError>(Frame::data(Bytes::from(said)))
        })))),
        "/speaks" => {
            let words = stream::iter(0..PAUSES).then(move |_| async move {
                paused(1).await;
                word()
            });
            // Polled beside the words, and heard by nobody.
            let listens = stream::once(async move { drop(body.collect().await) });
            let listens = listens.filter_map(|()| async { None });
            Answer::Ready(streamed(StreamBody::new(Box::pin(stream::select(
                words, listens,
            )))))
        }
        "/deaf" => Answer::Ready(streamed(StreamBody::new(Box::pin(stream::once(
            async move {
                paused(PAUSES as u32).await;
                drop(body);
                word()
            },
        ))))),
        _ => echo(body),
    }
}

async fn conversing() -> Running {
    let limits = HttpLimits {
        two_way_silence_max: SILENCE,
        ..HttpLimits::default()
    };
    serve(limits, converses).await
}

async fn asked(running: &Running, path: &str) -> (SendStream<Bytes>, RecvStream) {
    let mut send = connect(running).await;
    let request = Request::post(format!("http://a{path}")).body(()).unwrap();
    let (answer, body) = send.send_request(request, false).unwrap();
    (body, soon(answer).await.unwrap().into_body())
}

fn too_silent(running: &Running) -> u64 {
    running.server.counters().of(HttpCause::SlowBody)
}

#[tokio::test]
async fn a_conversation_by_http2_ends_when_both_sides_are_silent() {
    let running = conversing().await;
    let (mut say, mut heard) = asked(&running, "/echoes").await;
    for _ in 0..PAUSES {
        tokio::time::sleep(PAUSE).await;
        say.send_data("word".into(), false).unwrap();
        assert_eq!(soon(heard.data()).await.unwrap().unwrap(), "word");
    }
    let since = Instant::now();
    let cut = soon(heard.data()).await.unwrap().unwrap_err();
    assert!(cut.is_reset(), "{cut}");
    assert!(since.elapsed() >= SILENCE - PAUSE, "{:?}", since.elapsed());
    assert_eq!((too_silent(&running), running.server.in_flight()), (1, 0));
}

#[tokio::test]
async fn a_conversation_by_http1_ends_when_both_sides_are_silent() {
    let running = conversing().await;
    let mut client = Client::to(&running).await;
    client
        .send("POST /echoes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status, 200);
    for _ in 0..PAUSES {
        tokio::time::sleep(PAUSE).await;
        client.send("4\r\nword\r\n").await;
        assert_eq!(client.exactly(9).await, b"4\r\nword\r\n");
    }
    let since = Instant::now();
    // Without a last chunk.
    assert!(!client.rest().await.is_ok_and(|rest| rest.contains('0')));
    assert!(since.elapsed() >= SILENCE - PAUSE, "{:?}", since.elapsed());
    assert_eq!(too_silent(&running), 1);
}

#[tokio::test]
async fn one_side_of_a_conversation_may_be_silent_for_long() {
    let running = conversing().await;
    let listening = async {
        let (mut say, mut heard) = asked(&running, "/listens").await;
        for _ in 0..PAUSES {
            tokio::time::sleep(PAUSE).await;
            say.send_data("word".into(), false).unwrap();
        }
        say.send_data(Bytes::new(), true).unwrap();
        let told = (4 * PAUSES).to_string();
        assert_eq!(soon(heard.data()).await.unwrap().unwrap(), told);
    };
    let speaking = async {
        let (_silent, mut heard) = asked(&running, "/speaks").await;
        for _ in 0..PAUSES {
            assert_eq!(soon(heard.data()).await.unwrap().unwrap(), "tick");
        }
    };
    // The client is not waited for, and is no more silent than the app.
    let deaf = async {
        let (_silent, mut heard) = asked(&running, "/deaf").await;
        assert_eq!(soon(heard.data()).await.unwrap().unwrap(), "tick");
    };
    let by_http1 = async {
        let mut client = Client::to(&running).await;
        client
            .send("POST /listens HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        for _ in 0..PAUSES {
            tokio::time::sleep(PAUSE).await;
            client.send("4\r\nword\r\n").await;
        }
        client.send("0\r\n\r\n").await;
        assert_eq!(client.read().await.body, (4 * PAUSES).to_string());
        client
            .send("POST /speaks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        client.head().await;
        let words = "4\r\ntick\r\n".repeat(PAUSES);
        assert_eq!(client.exactly(words.len()).await, words.as_bytes());
    };
    futures::join!(listening, speaking, deaf, by_http1);
    assert_eq!(too_silent(&running), 0);
}
