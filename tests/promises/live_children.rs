//! A child of a live node that dies: its own listener, by which other nodes reach its keys, is not left alone.

use protoplex_tests::{Connection, Fleet, Load, Response, is_alive, signal};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const PLACE: &str = "tests/builds/place.toml";
/// A new connection to a public port may wait this long, and no longer.
const ANSWER_MAX: Duration = Duration::from_millis(250);
const LOADS: usize = 8;
const WAIT_MAX: Duration = Duration::from_secs(30);

fn fleet() -> Fleet {
    Fleet::start_with(PLACE, &["--nodes", "app=0,live=1"]).unwrap()
}

/// Asks on a child's own listener. Returns the child that answers.
async fn ask(address: &str) -> anyhow::Result<String> {
    let mut connection = Connection::open(address).await?;
    let asked = [("x-asked", "yes")];
    let answer = connection.request("GET", "/", &asked, b"").await?;
    who(&answer).map_err(anyhow::Error::msg)
}

fn who(response: &Response) -> Result<String, String> {
    match response.status {
        200 => Ok(response.text().trim().to_owned()),
        status => Err(format!("{status}: {}", response.text())),
    }
}

/// Process ids of the live node's children and the addresses of their listeners, in the same order.
async fn children(fleet: &Fleet) -> Vec<(i32, String)> {
    let status = fleet.meta("live", "/status").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let pids = status["children"].as_array().unwrap().iter();
    let addresses = status["child_addresses"].as_array().unwrap().iter();
    pids.zip(addresses)
        .map(|(child, address)| {
            let pid = i32::try_from(child["pid"].as_i64().unwrap()).unwrap();
            let address = address.as_str().unwrap().trim_start_matches("http://");
            (pid, address.to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sibling_answers_on_a_dead_childs_own_listener() {
    let fleet = fleet();
    let all = children(&fleet).await;
    let [(victim, own), (_, other)] = <[_; 2]>::try_from(all).unwrap();
    let (dead, sibling) = (ask(&own).await.unwrap(), ask(&other).await.unwrap());
    assert_ne!(dead, sibling, "each has its own");
    signal(victim, Signal::KILL).unwrap();
    // A child that is killed needs a moment to die, and how long that is is up to the kernel.
    let deadline = Instant::now() + WAIT_MAX;
    while is_alive(victim) {
        assert!(Instant::now() < deadline, "it does not die");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let gone = Instant::now();
    // What it had accepted dies with it.
    let mut answered = ask(&own).await;
    while answered.as_ref().map_or(true, |who| *who == dead) {
        assert!(gone.elapsed() < ANSWER_MAX, "{answered:?}");
        answered = ask(&own).await;
    }
    assert!(gone.elapsed() < ANSWER_MAX, "{:?}", gone.elapsed());
    // Another node keeps a connection to it.
    let mut kept = Connection::open(&own).await.unwrap();
    // Until the child is back on it, and then on its own: nobody is refused and nobody waits.
    let mut now = answered.unwrap();
    assert_eq!(now, sibling);
    let deadline = Instant::now() + WAIT_MAX;
    while now == sibling {
        assert!(Instant::now() < deadline, "the child does not come back");
        let asked = Instant::now();
        now = ask(&own).await.unwrap();
        assert!(asked.elapsed() < ANSWER_MAX, "{:?}", asked.elapsed());
    }
    assert_ne!(now, dead);
    // Nor is it the sibling's on what was kept: keys have one place.
    let asked = [("x-asked", "yes")];
    while let Ok(answer) = kept.request("GET", "/", &asked, b"").await {
        assert!(Instant::now() < deadline, "the sibling goes on");
        assert_eq!(who(&answer), Ok(sibling.clone()));
        if answer.header("connection") == Some("close") {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_dead_child_are_answered_or_refused_and_never_left_waiting() {
    let fleet = fleet();
    let victim = children(&fleet).await[0].0;
    let proxy = fleet.node("proxy").http;
    let loads: Vec<_> = (0..LOADS)
        .map(|number| Load::start(&proxy, &format!("/room/{number}"), 1, who))
        .collect();
    let total = || loads.iter().map(Load::total).sum::<u64>();
    let progress = async |more: u64| {
        let (before, deadline) = (total(), Instant::now() + WAIT_MAX);
        while total() < before + more {
            assert!(Instant::now() < deadline, "no load");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    progress(1_000).await;
    signal(victim, Signal::KILL).unwrap();
    progress(3_000).await;
    for load in loads {
        let report = load.finish().await;
        // One request each was in flight, and is asked again; if not, its visitor is told.
        assert!(report.failures.len() <= 1, "{:?}", report.failures);
        let told = |failure: &String| failure.starts_with("502") || failure.starts_with("503");
        assert!(report.failures.iter().all(told), "{:?}", report.failures);
        assert!(report.slowest < ANSWER_MAX * 4, "{:?}", report.slowest);
    }
}
