//! A process that is killed comes back, and its death costs no more than it must.

use protoplex_tests::{Connection, Fleet, Load, Node, Response, signal};
use rustix::process::Signal;
use std::{
    collections::HashSet,
    fs,
    time::{Duration, Instant},
};

const SWAP: &str = "tests/builds/swap.toml";
/// No new connection to a public port waits longer, even while a child crash-loops.
const CONNECT_WAIT_MAX: Duration = Duration::from_millis(250);
const CONNECTIONS: usize = 16;

fn greeting(response: &Response) -> Result<String, String> {
    match response.status {
        200 => Ok(response.text().trim().to_owned()),
        status => Err(format!("{status}: {}", response.text())),
    }
}

/// Connections that a process holds on a node's port, by the kernel's tables.
fn connections_of(pid: i32, node: &Node) -> usize {
    let port: u16 = node.http.rsplit(':').next().unwrap().parse().unwrap();
    let local = format!(":{port:04X}");
    let inodes: HashSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.replace(']', "")))
        .collect();
    let established = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&local) && fields[3] == "01" && inodes.contains(fields[9])
    };
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).filter(established).count()
}

async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !happened() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_child_costs_at_most_its_requests_in_flight() {
    let fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    let load = Load::start(&proxy.http, "/", CONNECTIONS, greeting);
    until("load", || load.total() > 500).await;
    let victim = fleet.children(&proxy).unwrap()[0];
    let held = connections_of(victim, &proxy);
    signal(victim, Signal::KILL).unwrap();
    let before = load.total();
    until("load after the kill", || load.total() > before + 2_000).await;
    let report = load.finish().await;
    assert!(
        report.failures.len() <= held,
        "{} failed, the child held {held}: {:?}",
        report.failures.len(),
        report.failures
    );
    assert!(held < CONNECTIONS, "the other child held none");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_new_connection_waits_while_a_child_crash_loops() {
    let fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    let survivor = fleet.children(&proxy).unwrap()[0];
    let (mut killed, mut answered) = (HashSet::new(), 0);
    let mut slowest = Duration::ZERO;
    while killed.len() < 6 {
        for pid in fleet.children(&proxy).unwrap() {
            if pid != survivor && connections_of(pid, &proxy) == 0 && killed.insert(pid) {
                signal(pid, Signal::KILL).unwrap();
            }
        }
        for _ in 0..10 {
            let started = Instant::now();
            // One that the dying child had accepted is lost with it.
            if let Ok(answer) = Connection::get_once(&proxy.http, "/").await {
                assert_eq!(greeting(&answer), Ok("blue".into()));
                answered += 1;
                slowest = slowest.max(started.elapsed());
            }
        }
    }
    assert!(answered > 100, "{answered} were answered");
    assert!(
        slowest < CONNECT_WAIT_MAX,
        "a connection waited {slowest:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_children_killed_again_and_again_visitors_wait_for_a_restart_and_no_more() {
    let fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    for _ in 0..8 {
        for pid in fleet.children(&proxy).unwrap() {
            // It may be gone: killed in the round before.
            let _ = signal(pid, Signal::KILL);
        }
        let started = Instant::now();
        let mut answer = Connection::get_once(&proxy.http, "/").await;
        while answer.is_err() && started.elapsed() < Duration::from_secs(10) {
            answer = Connection::get_once(&proxy.http, "/").await;
        }
        assert_eq!(greeting(&answer.unwrap()), Ok("blue".into()));
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_hangs_is_replaced() {
    let fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    let stuck = fleet.children(&proxy).unwrap()[0];
    signal(stuck, Signal::STOP).unwrap();
    until("the stuck child is gone", || {
        !fleet.children(&proxy).unwrap().contains(&stuck)
    })
    .await;
    for _ in 0..20 {
        let answer = Connection::get_once(&proxy.http, "/").await.unwrap();
        assert_eq!(greeting(&answer), Ok("blue".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_seed_killed_again_and_again_no_request_fails() {
    let fleet = Fleet::start(SWAP).unwrap();
    assert_eq!(fleet.push(SWAP, &["greeting=green"]).unwrap().code, 0);
    let proxy = fleet.node("proxy");
    let load = Load::start(&proxy.http, "/", 4, greeting);
    let up_json = fleet.data().join("up.json");
    let seed_pid = || {
        let text = fs::read_to_string(&up_json).ok()?;
        let info: serde_json::Value = serde_json::from_str(&text).ok()?;
        i32::try_from(info["seed_pid"].as_i64()?).ok()
    };
    for _ in 0..3 {
        let pid = seed_pid().unwrap();
        signal(pid, Signal::KILL).unwrap();
        until("another Seed", || {
            seed_pid().is_some_and(|other| other != pid)
        })
        .await;
    }
    let report = load.finish().await;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(report.seen.keys().collect::<Vec<_>>(), ["green"]);
    // The Seed that came back knows its nodes, and takes orders.
    let pushed = fleet.push(SWAP, &["greeting=red"]).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    let answer = Connection::get_once(&proxy.http, "/").await.unwrap();
    assert_eq!(greeting(&answer), Ok("red".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_are_whole_while_children_are_killed() {
    let fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    for round in 0..12 {
        let color = ["green", "blue"][round % 2];
        let children = fleet.children(&proxy).unwrap();
        let victim = children[round % children.len()];
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(7 * round as u64));
            // It may have been replaced already.
            let _ = signal(victim, Signal::KILL);
        });
        let pushed = fleet.push(SWAP, &[&format!("greeting={color}")]).unwrap();
        killer.join().unwrap();
        assert_eq!(pushed.code, 0, "{pushed:?}");
        for _ in 0..20 {
            if let Ok(answer) = Connection::get_once(&proxy.http, "/").await {
                assert_eq!(greeting(&answer), Ok(color.into()), "round {round}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_with_the_same_data_serves_in_under_a_second() {
    let mut fleet = Fleet::start(SWAP).unwrap();
    let took = fleet.restart(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    let answer = Connection::get_once(&proxy.http, "/").await.unwrap();
    assert_eq!(greeting(&answer), Ok("blue".into()));
    assert!(took < Duration::from_secs(1), "{took:?}");
}
