//! Everything at once: small answers, bodies both ways, HTTP/1.1 and HTTP/2, through one node and over two, while
//! builds are switched. Nothing fails, and nothing is left behind.

use protoplex_tests::{Connection, Fleet, Https, Load, Response};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};
use tokio::task::JoinSet;

const SAMPLE: &str = "builds/sample.toml";
const PUSHES: usize = 20;
const BULK_BYTES: usize = 1 << 20;
/// Connections of each kind.
const CONNECTIONS: usize = 4;

pub(crate) fn well(response: &Response) -> Result<String, String> {
    match response.status {
        200 => Ok("well".into()),
        status => Err(format!("{status}: {}", response.text())),
    }
}

/// Sends a large body again and again, and compares what comes back.
pub(crate) async fn bulk(address: String, stop: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let body: Vec<u8> = (0..BULK_BYTES).map(|at| (at % 251) as u8).collect();
    let mut connection = Connection::open(&address).await?;
    let mut count = 0;
    while !stop.load(Relaxed) {
        let answer = connection.request("POST", "/api/echo", &[], &body).await?;
        anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        anyhow::ensure!(answer.body == body, "another body came back");
        count += 1;
    }
    Ok(count)
}

/// Streams of one HTTP/2 connection, of which some ask the other node.
pub(crate) async fn streams(https: Https, stop: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let count = AtomicU64::new(0);
    let one = |path: &'static str| {
        let (https, stop, count) = (&https, &stop, &count);
        async move {
            while !stop.load(Relaxed) {
                let (_, answer) = https.request("GET", path, vec![]).await?;
                well(&answer).map_err(anyhow::Error::msg)?;
                count.fetch_add(1, Relaxed);
            }
            anyhow::Ok(())
        }
    };
    tokio::try_join!(
        one("/"),
        one("/hello"),
        one("/api/hello"),
        one("/api/greeting")
    )?;
    Ok(count.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_load_sees_nothing_of_twenty_pushes_and_leaves_nothing_behind() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let address = fleet.node("proxy").http;
    let stop = Arc::new(AtomicBool::new(false));
    let small = Load::start(&address, "/hello", CONNECTIONS, well);
    let relayed = Load::start(&address, "/api/hello", CONNECTIONS, well);
    let mut others = JoinSet::new();
    for _ in 0..CONNECTIONS {
        others.spawn(bulk(address.clone(), Arc::clone(&stop)));
        let https = Https::new(&fleet, "proxy", true).unwrap();
        others.spawn(streams(https, Arc::clone(&stop)));
    }
    for push in 0..PUSHES {
        let color = ["greeting=green", "greeting=blue"][push % 2];
        let pushed = tokio::task::block_in_place(|| fleet.push(SAMPLE, &[color])).unwrap();
        assert_eq!(pushed.code, 0, "{pushed:?}");
    }
    stop.store(true, Relaxed);
    for report in [small.finish().await, relayed.finish().await] {
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert!(report.total() > 0);
    }
    for asked in others.join_all().await {
        assert!(asked.unwrap() > 0);
    }
    for role in ["proxy", "app"] {
        fleet
            .wait_for_metric(role, "protoplex_in_flight", |left| left == 0.0)
            .await;
    }
    // The app node's connections are the proxy's, which keeps them.
    fleet
        .wait_for_metric("proxy", "protoplex_connections", |left| left == 0.0)
        .await;
}
