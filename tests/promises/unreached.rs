//! A push that reaches nobody is no success, and says so.

use protoplex_tests::{Connection, Fleet, Node, signal};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const SWAP: &str = "tests/builds/swap.toml";
/// The exit code for a build that is the fleet's, and that no node (of some role) runs.
const UNREACHED: i32 = 6;
/// A silent node counts as gone after five seconds, and comes back within five.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Node processes that stand still, and go on when this ends.
struct Still(Vec<i32>);

impl Still {
    fn new<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Self {
        let pids: Vec<i32> = nodes.into_iter().map(|node| node.pid).collect();
        for pid in &pids {
            signal(*pid, Signal::STOP).unwrap();
        }
        Self(pids)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        for pid in &self.0 {
            // It may be gone, where the test failed.
            let _ = signal(*pid, Signal::CONT);
        }
    }
}

async fn until_connected(fleet: &Fleet, count: usize) {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let said = fleet.run(&["status", "--json"]).unwrap().out;
        let status: serde_json::Value = serde_json::from_str(&said).unwrap();
        if status["nodes_connected"] == count {
            return;
        }
        assert!(Instant::now() < deadline, "{status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn until_greeted(address: &str, color: &str) {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let answer = Connection::get_once(address, "/").await;
        if answer.is_ok_and(|answer| answer.text().trim() == color) {
            return;
        }
        assert!(Instant::now() < deadline, "never {color}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_reaches_no_node_is_no_success() {
    let fleet = Fleet::start(SWAP).unwrap();
    let nodes: Vec<Node> = ["proxy", "app"].map(|role| fleet.node(role)).into();
    {
        let _still = Still::new(&nodes);
        until_connected(&fleet, 0).await;
        let pushed = fleet.push(SWAP, &["greeting=green"]).unwrap();
        assert_eq!(pushed.code, UNREACHED, "{pushed:?}");
        assert!(pushed.err.contains("runs nowhere"), "{pushed:?}");
        for node in &nodes {
            assert!(pushed.err.contains(&node.name), "{pushed:?}");
        }
        assert!(!pushed.out.contains("runs on every node"), "{pushed:?}");
        let back = fleet.run(&["rollback", "--json"]).unwrap();
        assert_eq!(back.code, UNREACHED, "{back:?}");
        let last: serde_json::Value =
            serde_json::from_str(back.out.lines().last().unwrap()).unwrap();
        assert_eq!(last["away"].as_array().unwrap().len(), 2, "{last}");
        let pushed = fleet.push(SWAP, &["greeting=red"]).unwrap();
        assert_eq!(pushed.code, UNREACHED, "{pushed:?}");
    }
    // It stands, for when they are back.
    until_greeted(&nodes[0].http, "red").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_misses_all_nodes_of_a_role_is_no_success() {
    let fleet = Fleet::start_with(SWAP, &["--nodes", "proxy=2"]).unwrap();
    let (proxies, app) = (fleet.nodes("proxy"), fleet.node("app"));
    {
        let _still = Still::new([&proxies[1]]);
        until_connected(&fleet, 2).await;
        let pushed = fleet.push(SWAP, &["greeting=green"]).unwrap();
        assert_eq!(pushed.code, 0, "another proxy has it: {pushed:?}");
        let said = "on 2 of 3 nodes";
        assert!(pushed.out.contains(said), "{pushed:?}");
        assert!(pushed.out.contains(&proxies[1].name), "{pushed:?}");
    }
    until_connected(&fleet, 3).await;
    {
        let _still = Still::new([&app]);
        until_connected(&fleet, 2).await;
        let pushed = fleet.push(SWAP, &["greeting=red"]).unwrap();
        assert_eq!(pushed.code, UNREACHED, "{pushed:?}");
        assert!(pushed.err.contains("none of role app"), "{pushed:?}");
    }
    until_greeted(&app.http, "red").await;
}
