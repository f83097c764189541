//! Requests that go on while their response does: who is silent in a conversation owes nothing.

use crate::support::{Client, Running, collect, echo, serve, soon};
use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{Request, Response};
use protoplex_edge::{Cause, Limits};
use std::time::Duration;
use tokio::net::TcpStream;

const TINY: Duration = Duration::from_millis(60);

/// A body that is waited for has to come at once, and fast.
fn impatient() -> Limits {
    Limits {
        body_timeout: TINY,
        body_grace: TINY,
        body_bytes_per_s_min: 10_000,
        ..Limits::default()
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
    assert_eq!(running.server.counters().of(Cause::SlowBody), 0);
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
    assert_eq!(running.server.counters().of(Cause::SlowBody), 0);
}

#[tokio::test]
async fn a_body_that_an_answer_waits_for_is_still_owed() {
    let running = serve(impatient(), |_, body| collect(body)).await;
    let mut send = connect(&running).await;
    let request = Request::post("http://a/").body(()).unwrap();
    let (answer, mut body) = send.send_request(request, false).unwrap();
    body.send_data("a".into(), false).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 408);
    assert_eq!(running.server.counters().of(Cause::SlowBody), 1);
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
