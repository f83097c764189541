//! A whole node that is gone from one moment to the next, under load: it costs what it had in flight and no more.

use protoplex_tests::{Connection, Fleet, Load, Response, kill_node, signal};
use rustix::process::Signal;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const CONNECTIONS: usize = 16;
const BULK_CONNECTIONS: usize = 4;
const BULK_BYTES: usize = 1 << 20;
/// No answer takes longer, whether its node lives or not: a server that is not there is known at once.
const ANSWER_MAX: Duration = Duration::from_secs(3);
const WAIT_MAX: Duration = Duration::from_secs(30);

fn well(response: &Response) -> Result<String, String> {
    match response.status {
        200 => Ok("well".into()),
        status => Err(format!("{status}: {}", response.text())),
    }
}

/// Answers and failures of a client that sends large bodies, which cannot be sent again.
async fn bulk(address: String, stop: Arc<AtomicBool>) -> (u64, Vec<String>) {
    let body = vec![7; BULK_BYTES];
    let (mut well, mut failures) = (0, Vec::new());
    while !stop.load(Relaxed) {
        let asked = Instant::now();
        let answer = async {
            let mut connection = Connection::open(&address).await?;
            connection.request("POST", "/api/echo", &[], &body).await
        };
        match answer.await {
            Ok(answer) if answer.status == 200 && answer.body == body => well += 1,
            Ok(answer) => failures.push(format!("{} after {:?}", answer.status, asked.elapsed())),
            Err(error) => failures.push(format!("{error:#} after {:?}", asked.elapsed())),
        }
        assert!(asked.elapsed() < ANSWER_MAX, "{:?}", asked.elapsed());
    }
    (well, failures)
}

async fn until(what: &str, happened: impl Fn() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !happened() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_costs_what_cannot_be_sent_again_and_nothing_else() {
    let fleet = Fleet::start_with("builds/sample.toml", &["--nodes", "app=2"]).unwrap();
    let address = fleet.node("proxy").http;
    let stop = Arc::new(AtomicBool::new(false));
    let load = Load::start(&address, "/api/hello", CONNECTIONS, well);
    let mut bulks = JoinSet::new();
    for _ in 0..BULK_CONNECTIONS {
        bulks.spawn(bulk(address.clone(), Arc::clone(&stop)));
    }
    until("load", || load.total() > 2_000).await;
    let [victim, survivor] = <[_; 2]>::try_from(fleet.nodes("app")).unwrap();
    let requests = async |node| {
        let count = fleet.metric_of(node, "protoplex_requests_total", "").await;
        count.unwrap()
    };
    assert!(requests(&victim).await > 100.0 && requests(&survivor).await > 100.0);
    // Nobody starts it again for now.
    signal(fleet.pid(), Signal::STOP).unwrap();
    kill_node(&victim).unwrap();
    let before = load.total();
    until("load after the kill", || load.total() > before + 2_000).await;
    signal(fleet.pid(), Signal::CONT).unwrap();
    stop.store(true, Relaxed);
    let report = load.finish().await;
    // A GET that it had not answered was asked again, of the other one.
    assert_eq!(report.failures, Vec::<String>::new());
    assert!(report.slowest < ANSWER_MAX, "{:?}", report.slowest);
    let mut failures = Vec::new();
    for (well, failed) in bulks.join_all().await {
        assert!(well > 0);
        failures.extend(failed);
    }
    // What was in flight; and its next request may have gone to the other child, while that one was still dying.
    let most = 2 * BULK_CONNECTIONS;
    assert!(failures.len() <= most, "{failures:?}");
    // It comes back, and is asked again.
    let back = fleet.back(&victim).await.unwrap();
    let load = Load::start(&address, "/api/hello", CONNECTIONS, well);
    let deadline = Instant::now() + WAIT_MAX;
    while requests(&back).await < 100.0 {
        assert!(Instant::now() < deadline, "it is never asked again");
    }
    assert_eq!(load.finish().await.failures, Vec::<String>::new());
}
