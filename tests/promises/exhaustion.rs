//! Fewer descriptors than visitors: those who are here are served, others are sent away at once, and it passes.

use crate::relaying::manifest;
use protoplex_tests::{Connection, Fleet, Node, Origin, cpu_time, limit_descriptors, read_head};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Semaphore, task::JoinSet};

const SAMPLE: &str = "builds/sample.toml";
/// Less than any system's default, and enough for the processes themselves.
const DESCRIPTORS: u64 = 400;
/// More than that allows in both children.
const VISITORS: usize = 220;
/// Somebody who cannot be let in is sent away within this.
const SEND_AWAY_MAX: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(5);

/// Whoever is let in, asking `path`; and how many were not, by what they heard.
async fn come(proxy: &Node, visitors: usize, path: &str) -> (Vec<Connection>, Vec<Option<u16>>) {
    let (mut here, mut away) = (Vec::new(), Vec::new());
    for _ in 0..visitors {
        let asked = Instant::now();
        let mut connection = Connection::open(&proxy.http).await.unwrap();
        match connection.get(path).await {
            Ok(answer) if answer.status == 200 => here.push(connection),
            heard => {
                assert!(asked.elapsed() < SEND_AWAY_MAX, "{:?}", asked.elapsed());
                away.push(heard.ok().map(|answer| answer.status));
            }
        }
    }
    (here, away)
}

/// Holds back answers until it opens.
struct Gate {
    waiting: AtomicUsize,
    open: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            open: Semaphore::new(0),
        }
    }
}

/// Answers at once, but `/together` when the gate is open.
async fn serve(mut stream: TcpStream, gate: Arc<Gate>) {
    while let Some(head) = read_head(&mut stream).await {
        if head.starts_with("GET /together ") {
            gate.waiting.fetch_add(1, Relaxed);
            // Closed is open.
            let _ = gate.open.acquire().await;
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// All of them ask at once.
async fn all_ask(connections: Vec<Connection>, path: &'static str) -> Vec<Connection> {
    let mut asking = JoinSet::new();
    for mut connection in connections {
        asking.spawn(async move {
            let answer = connection.get(path).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            connection
        });
    }
    asking.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_as_many_visitors_as_its_descriptors_allow_and_serves_all_of_those() {
    let gate = Arc::new(Gate::default());
    let origin = Origin::start({
        let gate = Arc::clone(&gate);
        move |stream| serve(stream, Arc::clone(&gate))
    })
    .await
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    let patience = "connect_timeout_ms = 30000\nfirst_byte_timeout_ms = 30000";
    std::fs::write(&file, manifest(&[&origin.address], patience, "")).unwrap();
    let fleet =
        Fleet::start_within(DESCRIPTORS, file.to_str().unwrap(), &["--nodes", "app=0"]).unwrap();
    let proxy = fleet.node("proxy");
    let (here, away) = come(&proxy, VISITORS, "/").await;
    assert!(!away.is_empty() && here.len() > VISITORS / 3);
    // The words may be lost to a reset, the count is not.
    assert!(
        away.iter().all(|heard| matches!(heard, None | Some(503))),
        "{away:?}"
    );
    let refused = fleet.refused(&proxy, "connections").await.unwrap();
    assert_eq!(refused, away.len() as f64);
    // There is a descriptor for each one's relay as well, all of them at once.
    let all = here.len();
    let asking = tokio::spawn(all_ask(here, "/together"));
    while gate.waiting.load(Relaxed) < all {
        assert!(!asking.is_finished(), "somebody was not relayed");
        tokio::time::sleep(POLL).await;
    }
    gate.open.close();
    let here = asking.await.unwrap();
    // The kernel spreads visitors over children, and not evenly: enough leave that there is room in each.
    let here: Vec<_> = here.into_iter().step_by(3).collect();
    let new = here.len() / 3;
    fleet
        .wait_for_metric("proxy", "protoplex_connections", |open| {
            open == here.len() as f64
        })
        .await;
    let (came, away) = come(&proxy, new, "/").await;
    assert_eq!((came.len(), away), (new, vec![]));
    assert_eq!(
        fleet.refused(&proxy, "descriptors").await.unwrap(),
        0.0,
        "it never came to that"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_nobody_waits_nothing_spins_and_it_passes() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let proxy = fleet.node("proxy");
    // Relays go on by the connection that they have.
    let (mut here, _) = come(&proxy, 20, "/api/hello").await;
    let children = fleet.children(&proxy).unwrap();
    for &child in &children {
        limit_descriptors(child, 5).unwrap();
    }
    let (some, away) = come(&proxy, 60, "/hello").await;
    assert!(
        !some.is_empty() && away.len() > 20,
        "{} {away:?}",
        some.len()
    );
    assert!(away.iter().all(Option::is_none), "{away:?}");
    here.extend(some);
    let shed = fleet.refused(&proxy, "descriptors").await.unwrap();
    assert_eq!(shed, away.len() as f64);
    here = all_ask(here, "/hello").await;
    // While nobody comes, there is nothing to do.
    let used = || children.iter().map(|&child| cpu_time(child).unwrap());
    let (before, since) = (used().sum::<Duration>(), Instant::now());
    let mut beats = tokio::time::interval(Duration::from_millis(100));
    while since.elapsed() < Duration::from_secs(2) {
        beats.tick().await;
        assert_eq!(here[0].get("/hello").await.unwrap().status, 200);
    }
    let spent = used().sum::<Duration>() - before;
    assert!(spent < since.elapsed() / 4, "{spent:?} of processor time");
    // Who leaves makes room.
    let room = here.split_off(here.len() / 2).len();
    fleet
        .wait_for_metric("proxy", "protoplex_connections", |open| {
            open == here.len() as f64
        })
        .await;
    let (new, _) = come(&proxy, room, "/hello").await;
    assert!(new.len() >= room / 3, "{} of {room}", new.len());
    assert_eq!(fleet.children(&proxy).unwrap(), children, "nobody died");
}
