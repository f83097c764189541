//! A node's own drain, by its configuration: readiness first, then a while as always, then everybody is sent away
//! over a window, and it ends by its deadline whoever stays.

use protoplex_tests::{Connection, Fleet, Node, is_alive, is_ready, signal};
use rustix::process::Signal;
use std::{
    future::Future,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

/// A second and a half of delay, then at most 2 s of window: 20 a second for 60 connections would take 3.
const INGRESS: &str =
    r#"{"drain_delay_ms":1500,"limits":{"drain_window_ms":2000,"drain_closes_per_s":20}}"#;
const DELAY: Duration = Duration::from_millis(1_500);
const WINDOW: Duration = Duration::from_millis(2_000);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);
/// Beside the drain's deadline: what a parent gives its children, and a busy machine.
const SLACK: Duration = Duration::from_secs(4);
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
const KEPT_ALIVE: usize = 40;
const HTTP2: usize = 20;
/// Prior knowledge, and empty SETTINGS (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const GOAWAY: u8 = 7;
const SETTINGS: u8 = 4;

fn fleet() -> (Fleet, Node) {
    let more = ["--drain-timeout", "4"];
    let fleet = Fleet::start_with_ingress("builds/sample.toml", INGRESS, &more).unwrap();
    let proxy = fleet.node("proxy");
    (fleet, proxy)
}

async fn kept_alive(proxy: &Node) -> Connection {
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    let answer = connection.get("/hello").await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    connection
}

/// The type of the next frame, which is read to its end.
async fn frame(stream: &mut TcpStream) -> Option<u8> {
    let mut head = [0; 9];
    let read = timeout(STEP_TIMEOUT, stream.read_exact(&mut head));
    read.await.unwrap().ok()?;
    let bytes = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut content = vec![0; bytes as usize];
    stream.read_exact(&mut content).await.ok()?;
    Some(head[3])
}

async fn http2(proxy: &Node) -> TcpStream {
    let mut stream = TcpStream::connect(&proxy.http).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    assert_eq!(frame(&mut stream).await, Some(SETTINGS));
    stream
}

/// When a GOAWAY came.
async fn goaway(mut stream: TcpStream) -> Instant {
    while frame(&mut stream).await.expect("a GOAWAY comes first") != GOAWAY {}
    Instant::now()
}

/// A request that never ends.
async fn endless(proxy: &Node) -> TcpStream {
    let mut stream = TcpStream::connect(&proxy.http).await.unwrap();
    let head = b"POST /api/count HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf";
    stream.write_all(head).await.unwrap();
    stream
}

async fn until<F: Future<Output = bool>>(what: &str, look: impl Fn() -> F) -> Instant {
    let deadline = Instant::now() + STEP_TIMEOUT;
    while !look().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(POLL).await;
    }
    Instant::now()
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_flips_first_and_until_the_delay_is_over_nobody_notices() {
    let (_fleet, proxy) = fleet();
    let mut kept = kept_alive(&proxy).await;
    signal(proxy.pid, Signal::TERM).unwrap();
    let told = Instant::now();
    let flipped = until("not ready", async || !is_ready(&proxy).await).await;
    assert!(flipped - told < DELAY / 3, "{:?}", flipped - told);
    // A balancer that has not looked yet sends visitors, old and new, and they are served as always.
    let mut asked = 0;
    while told.elapsed() < DELAY - DELAY / 5 {
        let answer = kept.get("/hello").await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, None));
        drop(kept_alive(&proxy).await);
        asked += 1;
    }
    assert!(asked > 10, "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_delay_connections_are_ended_over_the_window_and_in_order() {
    let (_fleet, proxy) = fleet();
    let mut ends = JoinSet::new();
    for _ in 0..KEPT_ALIVE {
        let mut connection = kept_alive(&proxy).await;
        ends.spawn(async move {
            assert!(connection.closed().await.unwrap());
            Instant::now()
        });
    }
    for _ in 0..HTTP2 {
        ends.spawn(goaway(http2(&proxy).await));
    }
    signal(proxy.pid, Signal::TERM).unwrap();
    let told = Instant::now();
    let mut at = Vec::new();
    while let Some(end) = ends.join_next().await {
        at.push(end.unwrap() - told);
    }
    at.sort();
    let (first, last) = (at[0], at[at.len() - 1]);
    // The kernel's clock and ours may differ by a tick of the parent's.
    assert!(first >= DELAY - DELAY / 10, "the first after {first:?}");
    assert!(last < DELAY + WINDOW + SLACK / 2, "the last after {last:?}");
    let half = at[at.len() * 3 / 4] - at[at.len() / 4];
    assert!(half > WINDOW / 5, "half of them within {half:?}: {at:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_during_the_drain_is_answered_and_told_to_go() {
    let (_fleet, proxy) = fleet();
    let mut connections = Vec::new();
    for _ in 0..KEPT_ALIVE {
        connections.push(kept_alive(&proxy).await);
    }
    let _endless = endless(&proxy).await;
    signal(proxy.pid, Signal::TERM).unwrap();
    // Until all are gone, and so both children drain; those that were ended before they asked are closed without a
    // word.
    let mut told = 0;
    let deadline = Instant::now() + STEP_TIMEOUT;
    while !connections.is_empty() {
        assert!(Instant::now() < deadline, "{} stay", connections.len());
        let mut kept = Vec::new();
        for mut connection in connections {
            let Ok(answer) = connection.get("/hello").await else {
                continue;
            };
            assert_eq!(answer.status, 200);
            match answer.header("connection") {
                Some("close") => {
                    assert!(connection.closed().await.unwrap());
                    told += 1;
                }
                _ => kept.push(connection),
            }
        }
        connections = kept;
    }
    assert!(told > 0, "all were ended before they asked");
    // Nobody new is left waiting in a queue that no one serves: who came just before it was shut is answered.
    let asked = Instant::now();
    while let Ok(answer) = Connection::get_once(&proxy.http, "/hello").await {
        let close = Some("close");
        assert_eq!((answer.status, answer.header("connection")), (200, close));
        assert!(asked.elapsed() < SLACK / 4, "nobody is refused");
    }
    assert!(asked.elapsed() < SLACK / 4, "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_by_its_deadline_whoever_stays() {
    let (fleet, proxy) = fleet();
    let mut idle = kept_alive(&proxy).await;
    let _endless = endless(&proxy).await;
    fleet
        .wait_for_metric("proxy", "protoplex_in_flight", |count| count == 1.0)
        .await;
    signal(proxy.pid, Signal::TERM).unwrap();
    let told = Instant::now();
    assert!(idle.closed().await.unwrap(), "the drain has begun");
    // What is still in flight shows.
    let in_flight = fleet.metric("proxy", "protoplex_in_flight").await;
    assert_eq!(in_flight.unwrap(), 1.0);
    let ended = until("the end", async || !is_alive(proxy.pid)).await - told;
    let due = DELAY + DRAIN_TIMEOUT;
    assert!(
        ended >= due - DELAY / 10,
        "it was not waited for: {ended:?}"
    );
    assert!(ended < due + SLACK, "it ended after {ended:?}");
}
