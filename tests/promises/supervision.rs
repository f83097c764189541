//! A parent that dies, hangs or was paused, and a child that does, cost nobody an answer.

use protoplex_tests::{Connection, Fleet, Node, children, has_unread_packets, is_alive, signal};
use rustix::process::Signal;
use std::{
    fs,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

const SWAP: &str = "tests/builds/swap.toml";
/// A client that waits longer waits in vain: for a connection in a queue that nobody serves.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Whatever is waited for happens by then.
const STEP_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// A child that says nothing is killed after five seconds.
const FILL_MAX: Duration = Duration::from_secs(4);

async fn until(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + STEP_MAX;
    while !happened().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Asks by so many new connections, one after another.
async fn all_are_served(node: &Node, connections: usize) {
    for number in 0..connections {
        let answer = timeout(ANSWER_MAX, Connection::get_once(&node.http, "/")).await;
        let answer = answer.unwrap_or_else(|_| panic!("connection {number} waits"));
        assert_eq!(answer.unwrap().status, 200, "connection {number}");
    }
}

/// A connection whose request has begun.
async fn begun(node: &Node) -> Connection {
    let mut connection = Connection::open(&node.http).await.unwrap();
    let start = b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ";
    connection.write(start).await.unwrap();
    connection
}

async fn finish(mut connection: Connection) {
    connection.write(b"1\r\n\r\n").await.unwrap();
    assert_eq!(connection.response(false).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_parent_is_a_drain_and_leaves_no_dead_queue() {
    let fleet = Fleet::start_with(SWAP, &["--drain-timeout", "20"]).unwrap();
    let proxy = fleet.node("proxy");
    let old = fleet.children(&proxy).unwrap();
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(begun(&proxy).await);
    }
    // They are accepted, and their bytes read, when others behind them were answered.
    all_are_served(&proxy, 8).await;
    signal(proxy.pid, Signal::KILL).unwrap();
    let next = fleet.back(&proxy).await.unwrap();
    assert!(old.iter().any(|&pid| is_alive(pid)), "nobody drains");
    all_are_served(&next, 60).await;
    for connection in slow {
        finish(connection).await;
    }
    until("the old children end", async || {
        !old.iter().any(|&pid| is_alive(pid))
    })
    .await;
    all_are_served(&next, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_parent_leaves_other_nodes_no_dead_queue() {
    let fleet = Fleet::start_with("builds/sample.toml", &["--drain-timeout", "20"]).unwrap();
    let (proxy, app) = (fleet.node("proxy"), fleet.node("app"));
    let old = fleet.children(&app).unwrap();
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::open(&proxy.http).await.unwrap();
        let half = b"POST /api/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8\r\n\r\nhalf";
        connection.write(half).await.unwrap();
        let echoed = connection.response(true).await.unwrap();
        slow.push((connection, echoed));
    }
    signal(app.pid, Signal::KILL).unwrap();
    fleet.back(&app).await.unwrap();
    assert!(old.iter().any(|&pid| is_alive(pid)), "nobody drains");
    // At once, so that the proxy makes new connections for most of them.
    let mut asked = JoinSet::new();
    for _ in 0..40 {
        let address = proxy.http.clone();
        asked.spawn(async move { Connection::get_once(&address, "/api/hello").await });
    }
    let answers = timeout(ANSWER_MAX * 2, asked.join_all()).await;
    let answers = answers.expect("nobody waits in a queue that is not served");
    for answer in answers {
        assert_eq!(answer.unwrap().status, 200);
    }
    for (mut connection, echoed) in slow {
        connection.write(b"done").await.unwrap();
        let echoed = connection.rest(echoed).await.unwrap();
        assert_eq!((echoed.status, echoed.text().as_str()), (200, "halfdone"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_is_killed_in_a_push_takes_no_child_along() {
    let fleet = Fleet::start_with(SWAP, &["--drain-timeout", "20"]).unwrap();
    let proxy = fleet.node("proxy");
    let old = fleet.children(&proxy).unwrap();
    let slow = [begun(&proxy).await, begun(&proxy).await];
    all_are_served(&proxy, 8).await;
    let push = fleet.command(&["push", SWAP, "--set", "greeting=green", "--data"]);
    let mut push = push.unwrap().arg(fleet.data()).spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    signal(proxy.pid, Signal::KILL).unwrap();
    let next = fleet.back(&proxy).await.unwrap();
    // With or without that node.
    tokio::task::block_in_place(|| push.wait()).unwrap();
    for connection in slow {
        finish(connection).await;
    }
    until("the old children end", async || {
        !old.iter().any(|&pid| is_alive(pid))
    })
    .await;
    all_are_served(&next, 10).await;
}

/// A process and all that it started.
fn tree(pid: i32) -> Vec<i32> {
    let below = children(pid).unwrap_or_default();
    [pid]
        .into_iter()
        .chain(below.into_iter().flat_map(tree))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_paused_cuts_no_connection() {
    let fleet = Fleet::start_with("builds/sample.toml", &["--nodes", "live=1"]).unwrap();
    let proxy = fleet.node("proxy");
    let mut kept = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::open(&proxy.http).await.unwrap();
        assert_eq!(connection.get("/api/hello").await.unwrap().status, 200);
        kept.push(connection);
    }
    let slow = begun(&proxy).await;
    let all = tree(fleet.pid());
    all.iter()
        .for_each(|&pid| signal(pid, Signal::STOP).unwrap());
    tokio::time::sleep(Duration::from_secs(8)).await;
    // Parents first: they look at their clocks before their children have said a word.
    all.iter()
        .for_each(|&pid| signal(pid, Signal::CONT).unwrap());
    for connection in &mut kept {
        assert_eq!(connection.get("/api/hello").await.unwrap().status, 200);
    }
    finish(slow).await;
    // A watchdog that would bark has, by then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut now = tree(fleet.pid());
    let mut all = all;
    all.sort_unstable();
    now.sort_unstable();
    assert_eq!(now, all, "{}", fleet.logs());
    for connection in &mut kept {
        assert_eq!(connection.get("/api/hello").await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_hangs_stops_neither_its_parent_nor_new_clients() {
    let fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    let stuck = fleet.children(&proxy).unwrap()[0];
    signal(stuck, Signal::STOP).unwrap();
    // A sibling takes what comes to its sockets long before it is killed.
    let mut asked = JoinSet::new();
    for _ in 0..40 {
        let address = proxy.http.clone();
        asked.spawn(async move { Connection::get_once(&address, "/").await });
    }
    let waiting = timeout(Duration::from_secs(4), asked.join_all()).await;
    let answers = waiting.expect("nobody waits for the watchdog");
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200))
    );
    // More questions than its control socket has room for.
    let mut questions = JoinSet::new();
    for _ in 0..16 {
        let (client, url) = (fleet.client().unwrap(), format!("{}/metrics", proxy.meta));
        questions.spawn(async move {
            for _ in 0..100 {
                // Given up, as a scraper does; the parent has been asked.
                let _ = timeout(Duration::from_millis(30), client.get(&url)).await;
            }
        });
    }
    questions.join_all().await;
    until("the stuck child is gone", async || {
        !fleet.children(&proxy).unwrap().contains(&stuck)
    })
    .await;
    let status = timeout(ANSWER_MAX, fleet.meta("proxy", "/status")).await;
    assert!(status.expect("the parent answers").is_ok());
    all_are_served(&proxy, 20).await;
    let pushed = fleet.push(SWAP, &["greeting=green"]).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
}

/// Has a node tell its children so much that the socket of one that does not read is full.
async fn fill_the_socket_of_a_stopped_child(fleet: &Fleet, node: &Node) {
    let log = fleet.data().join(format!("logs/{}.log", node.name));
    let told = || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.matches("the certificates are read again").count()
    };
    let begun = Instant::now();
    let mut quarter = None;
    loop {
        for _ in 0..20 {
            signal(node.pid, Signal::HUP).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let told = told();
        if quarter.is_none() && has_unread_packets(node.pid).unwrap() {
            quarter = Some(told);
        }
        // Where the parent waits for the child, nothing is told any more.
        let is_over = begun.elapsed() > FILL_MAX;
        if is_over || quarter.is_some_and(|quarter| told >= 5 * quarter) {
            break;
        }
    }
    assert!(quarter.is_some(), "the socket has room: {} packets", told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_ends_although_a_child_hangs() {
    let fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    let stuck = fleet.children(&proxy).unwrap()[0];
    signal(stuck, Signal::STOP).unwrap();
    fill_the_socket_of_a_stopped_child(&fleet, &proxy).await;
    assert!(fleet.children(&proxy).unwrap().contains(&stuck));
    let pushed = tokio::task::block_in_place(|| fleet.push(SWAP, &["greeting=green"])).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    assert!(!fleet.children(&proxy).unwrap().contains(&stuck));
    let answer = Connection::get_once(&proxy.http, "/").await.unwrap();
    assert_eq!(answer.text().trim(), "green");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_hangs_leaves_the_parent_awake() {
    let fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    let seed = fleet.seed_pid().unwrap();
    signal(seed, Signal::STOP).unwrap();
    let killed = fleet.children(&proxy).unwrap()[0];
    signal(killed, Signal::KILL).unwrap();
    until("another child", async || {
        let children = fleet.children(&proxy).unwrap();
        children.len() > 1 && !children.contains(&killed)
    })
    .await;
    all_are_served(&proxy, 20).await;
    let status = timeout(ANSWER_MAX, fleet.meta("proxy", "/status")).await;
    signal(seed, Signal::CONT).unwrap();
    assert!(status.expect("the parent answers").is_ok());
}

#[test]
fn a_cache_that_is_damaged_keeps_no_node_from_starting() {
    let mut fleet = Fleet::start(SWAP).unwrap();
    fleet.stop().unwrap();
    let data = fleet.data().join("nodes/proxy-1/data");
    let file = data.join("directory.json");
    let text = fs::read_to_string(&file).unwrap();
    let half = &text[..text.len() / 2];
    fs::write(&file, half).unwrap();
    fleet.start_again(SWAP).unwrap();
    let aside = fs::read_to_string(data.join("directory.json.damaged"));
    assert_eq!(aside.unwrap(), half);
    // What says which releases are too old is no cache.
    fleet.stop().unwrap();
    fs::write(data.join("state.json"), "{").unwrap();
    let error = format!("{:#}", fleet.start_again(SWAP).unwrap_err());
    assert!(error.contains("state.json is damaged"), "{error}");
    assert!(data.join("state.json").exists());
}
