//! Slow visitors under a node's own, short limits: each is cut by the limit that it breaks, in that limit's time, told
//! what can be told, and counted by its cause.

use protoplex_tests::{Connection, Fleet, Node};
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval};

const LIMITS: &str = r#"{"limits":{"first_byte_timeout_ms":400,"head_timeout_ms":2000,"idle_timeout_ms":4000,
    "body_timeout_ms":6000,"body_grace_ms":8000,"body_bytes_per_s_min":1000}}"#;
const SILENT: Duration = Duration::from_millis(400);
const HEAD: Duration = Duration::from_millis(2_000);
const IDLE: Duration = Duration::from_millis(4_000);
const BODY_STILL: Duration = Duration::from_millis(6_000);
const BODY_GRACE: Duration = Duration::from_millis(8_000);
/// A busy machine is late by this, and the next limit is further away.
const LATE_MAX: Duration = Duration::from_millis(1_500);
/// Between two bytes of somebody who drips.
const DRIP: Duration = Duration::from_millis(50);
const BODY: &[u8] = b"POST /api/count HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nabc";

/// A fleet with short limits, and its proxy.
fn fleet() -> (Fleet, Node) {
    let fleet = Fleet::start_with_ingress("builds/sample.toml", LIMITS, &[]).unwrap();
    let proxy = fleet.node("proxy");
    (fleet, proxy)
}

/// A cut took as long as the limit, and not as long as the next one. `since` is before anything that starts the
/// server's clock: whatever keeps the client from looking at its own makes this one late, and never early.
fn in_time(what: &str, since: Instant, limit: Duration) {
    let took = since.elapsed();
    assert!(
        took >= limit && took < limit + LATE_MAX,
        "{what}: cut after {took:?}"
    );
}

/// Sends what `drip` gives, byte by byte, until an answer comes: its status.
async fn drip(connection: &mut Connection, byte: &[u8]) -> u16 {
    let mut ticks = interval(DRIP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            answer = connection.response(false) => {
                let answer = answer.unwrap();
                assert_eq!(answer.header("connection"), Some("close"));
                return answer.status;
            }
            _ = ticks.tick() => {}
        }
        // A reset is seen by the read.
        let _ = connection.write(byte).await;
    }
}

async fn counted(fleet: &Fleet, proxy: &Node, cause: &str, times: f64) {
    let refused = fleet.refused(proxy, cause).await.unwrap();
    assert_eq!(refused, times, "{cause}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_its_own_deadline_however_it_drips() {
    let (fleet, proxy) = fleet();
    let since = Instant::now();
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    connection
        .write(b"GET /hello HTTP/1.1\r\nx: ")
        .await
        .unwrap();
    assert_eq!(drip(&mut connection, b"y").await, 408);
    in_time("a head", since, HEAD);
    // The same for a later request of a connection.
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    assert_eq!(connection.get("/hello").await.unwrap().status, 200);
    let since = Instant::now();
    connection
        .write(b"GET /hello HTTP/1.1\r\nx: ")
        .await
        .unwrap();
    assert_eq!(drip(&mut connection, b"y").await, 408);
    in_time("a second head", since, HEAD);
    counted(&fleet, &proxy, "slow-head", 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_must_come_and_must_come_fast_enough() {
    let (fleet, proxy) = fleet();
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    let since = Instant::now();
    connection.write(BODY).await.unwrap();
    let answer = connection.response(false).await.unwrap();
    assert_eq!(answer.status, 408);
    in_time("a body that stands still", since, BODY_STILL);
    // A byte now and then is no standing still, and still no 1,000 bytes a second.
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    let since = Instant::now();
    connection.write(BODY).await.unwrap();
    assert_eq!(drip(&mut connection, b"y").await, 408);
    in_time("a body that drips", since, BODY_GRACE);
    counted(&fleet, &proxy, "slow-body", 2.0).await;
    // What it asked for is over, too.
    fleet
        .wait_for_metric("app", "protoplex_in_flight", |left| left == 0.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_let_go_without_a_word() {
    let (fleet, proxy) = fleet();
    let since = Instant::now();
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    assert!(connection.closed().await.unwrap());
    in_time("a new connection", since, SILENT);
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    let since = Instant::now();
    assert_eq!(connection.get("/hello").await.unwrap().status, 200);
    assert!(connection.closed().await.unwrap());
    in_time("an idle connection", since, IDLE);
    counted(&fleet, &proxy, "silent", 1.0).await;
    counted(&fleet, &proxy, "idle", 1.0).await;
}
