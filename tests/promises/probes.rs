//! Ports that load balancers, nodes and operators ask: connections that say nothing keep nobody out.

use protoplex_tests::{Connection, Fleet};
use std::time::{Duration, Instant};
use tokio::{net::TcpStream, time::timeout};

/// More than any of these ports holds of clients that have not said who they are, from one address.
const SILENT: usize = 300;
/// A balancer gives a probe some seconds.
const PROBE_MAX: Duration = Duration::from_secs(3);

async fn silent(address: &str) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..SILENT {
        // Where the backlog is full, one more waits in vain, which is the test's point.
        let opened = timeout(Duration::from_millis(500), TcpStream::connect(address)).await;
        all.extend(opened.ok().and_then(Result::ok));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_answered_beside_connections_that_say_nothing() {
    let fleet = Fleet::start("builds/sample.toml").unwrap();
    let health = fleet.node("proxy").health;
    let _silent = silent(&health).await;
    for path in ["/healthz", "/readyz", "/healthz", "/readyz"] {
        let asked = Instant::now();
        let answer = timeout(PROBE_MAX, Connection::get_once(&health, path)).await;
        let answer = answer.expect("it is answered in time").unwrap();
        assert_eq!(answer.status, 200, "{path} after {:?}", asked.elapsed());
    }
    // A balancer that keeps its connection may do so.
    let mut kept = Connection::open(&health).await.unwrap();
    for _ in 0..3 {
        assert_eq!(kept.get("/readyz").await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_the_fleet_are_answered_beside_connections_that_say_nothing() {
    let fleet = Fleet::start("builds/sample.toml").unwrap();
    let host = |url: &str| url.split_once("//").unwrap().1.to_owned();
    let meta = host(&fleet.node("proxy").meta);
    let seed = host(fleet.info["seed"].as_str().unwrap());
    let _silent = (silent(&meta).await, silent(&seed).await);
    let asked = timeout(PROBE_MAX, fleet.meta("proxy", "/status")).await;
    assert!(asked.expect("it is answered in time").is_ok());
    let pushed = fleet.push("builds/sample.toml", &["greeting=two"]).unwrap();
    assert_eq!(pushed.code, 0, "{}{}", pushed.out, pushed.err);
}
