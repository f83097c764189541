//! Conversations of a client with an app, by a request and a response that both go on: pauses are let be, and a silence of
//! both sides has an end.

use h2::{RecvStream, SendStream};
use http::Request;
use hyper::body::Bytes;
use protoplex_tests::{Connection, Fleet, Node};
use std::time::{Duration, Instant};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

const INGRESS: &str = r#"{"limits":{"two_way_silence_max_ms":3000}}"#;
const SILENCE_MAX: Duration = Duration::from_millis(3_000);
/// More of them than the limit has room for.
const PAUSE: Duration = Duration::from_millis(800);
const PAUSES: usize = 5;
/// A busy machine is late by this.
const LATE_MAX: Duration = Duration::from_secs(20);

fn fleet() -> (Fleet, Node) {
    let fleet = Fleet::start_with_ingress("builds/sample.toml", INGRESS, &[]).unwrap();
    let app = fleet.node("app");
    (fleet, app)
}

async fn begun(app: &Node) -> (SendStream<Bytes>, RecvStream) {
    let io = TcpStream::connect(&app.http).await.unwrap();
    let (mut send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let request = Request::post("http://a/api/echo").body(()).unwrap();
    let (answer, say) = send.send_request(request, false).unwrap();
    let answer = timeout(LATE_MAX, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    (say, answer.into_body())
}

/// It was cut when the last word was as long ago as both sides may be silent.
async fn cut_in_time(fleet: &Fleet, app: &Node, since: Instant) {
    let took = since.elapsed();
    assert!(
        took + PAUSE >= SILENCE_MAX && took < SILENCE_MAX + LATE_MAX,
        "cut after {took:?}"
    );
    assert_eq!(fleet.refused(app, "slow-body").await.unwrap(), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_by_http2_goes_on_through_pauses_and_ends_in_silence() {
    let (fleet, app) = fleet();
    let (mut say, mut heard) = begun(&app).await;
    for _ in 0..PAUSES {
        sleep(PAUSE).await;
        say.send_data("word".into(), false).unwrap();
        let word = timeout(LATE_MAX, heard.data()).await.unwrap();
        assert_eq!(word.unwrap().unwrap(), "word");
    }
    let since = Instant::now();
    let cut = timeout(LATE_MAX, heard.data()).await.unwrap();
    let cut = cut.unwrap().unwrap_err();
    assert!(cut.is_reset(), "{cut}");
    cut_in_time(&fleet, &app, since).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_by_http1_goes_on_through_pauses_and_ends_in_silence() {
    let (fleet, app) = fleet();
    let mut client = Connection::open(&app.http).await.unwrap();
    let head = b"POST /api/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write(head).await.unwrap();
    let head = client.take_until(b"\r\n\r\n").await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for _ in 0..PAUSES {
        sleep(PAUSE).await;
        client.write(b"4\r\nword\r\n").await.unwrap();
        let word = client.take_until(b"word\r\n").await.unwrap();
        assert_eq!(word, "4\r\nword\r\n");
    }
    let since = Instant::now();
    // No last chunk comes before the end.
    let closed = timeout(LATE_MAX + SILENCE_MAX, client.closed()).await;
    assert!(closed.unwrap().unwrap());
    cut_in_time(&fleet, &app, since).await;
}
