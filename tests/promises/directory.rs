//! Keys are placed: on one child, the same from everywhere, and only as much moves as must.

use protoplex_tests::{Connection, Fleet, Load, Node, Response, signal};
use rustix::process::Signal;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

const PLACE: &str = "tests/builds/place.toml";
const KEYS: usize = 64;
/// Whatever is waited for has happened by then, or never will.
const WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

fn fleet() -> Fleet {
    let args = [
        "--nodes",
        "proxy=2",
        "--nodes",
        "app=0,live=2",
        "--region",
        "here",
    ];
    Fleet::start_with(PLACE, &args).unwrap()
}

fn keys() -> Vec<String> {
    (0..KEYS).map(|number| format!("/room/{number}")).collect()
}

/// Which child answered.
fn who(response: &Response) -> Result<String, String> {
    match response.status {
        200 => Ok(response.text().trim().to_owned()),
        status => Err(format!("{status}: {}", response.text())),
    }
}

/// Where every key is, as a proxy says.
async fn places(proxy: &Node) -> anyhow::Result<BTreeMap<String, String>> {
    let mut connection = Connection::open(&proxy.http).await?;
    let mut places = BTreeMap::new();
    for key in keys() {
        let answer = connection.get(&key).await?;
        places.insert(key, who(&answer).map_err(anyhow::Error::msg)?);
    }
    Ok(places)
}

/// The children of each live node, asked one by one where only nodes reach them.
async fn children(fleet: &Fleet) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut all = BTreeMap::new();
    for node in fleet.client()?.nodes().await? {
        for address in &node.child_addresses {
            let address = address.trim_start_matches("http://");
            let mut connection = Connection::open(address).await?;
            let answer = connection
                .request("GET", "/", &[("x-asked", "yes")], b"")
                .await?;
            let child = who(&answer).map_err(anyhow::Error::msg)?;
            all.entry(node.node.clone())
                .or_insert_with(BTreeSet::new)
                .insert(child);
        }
    }
    Ok(all)
}

/// Until both proxies place keys on every child of both live nodes: these, and the placement.
async fn settled(fleet: &Fleet) -> (BTreeMap<String, BTreeSet<String>>, BTreeMap<String, String>) {
    let deadline = Instant::now() + WAIT_MAX;
    let proxies = fleet.nodes("proxy");
    loop {
        let (nodes, one, other) = (
            children(fleet).await,
            places(&proxies[0]).await,
            places(&proxies[1]).await,
        );
        let seen = format!("{nodes:?} {one:?} {other:?}");
        if let (Ok(nodes), Ok(one), Ok(other)) = (nodes, one, other) {
            let all: BTreeSet<_> = nodes.values().flatten().cloned().collect();
            let used: BTreeSet<_> = one.values().cloned().collect();
            if nodes.len() == 2 && all == used && one == other {
                return (nodes, one);
            }
        }
        assert!(Instant::now() < deadline, "never settled: {seen}");
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_to_the_same_child_from_every_proxy_and_keys_go_to_all_children() {
    let fleet = fleet();
    let (nodes, first) = settled(&fleet).await;
    assert!(
        nodes.values().all(|children| children.len() >= 2),
        "{nodes:?}"
    );
    for proxy in fleet.nodes("proxy") {
        assert_eq!(places(&proxy).await.unwrap(), first);
    }
    let proxy = fleet.node("proxy").http;
    let refused = Connection::get_once(&proxy, "/without-a-key")
        .await
        .unwrap();
    assert!(refused.status >= 500, "{}", refused.text());
    fleet.wait_for_log("needs a key").await;
    let shown = fleet.run(&["nodes"]).unwrap().out;
    assert!(
        shown.contains("REGION") && shown.contains("here"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_node_that_is_killed_moves_only_its_keys() {
    let fleet = fleet();
    let (nodes, before) = settled(&fleet).await;
    let live = fleet.nodes("live");
    let (victim, survivor) = (&live[0], &live[1]);
    signal(victim.pid, Signal::KILL).unwrap();
    let stays = |key: &str| nodes[&survivor.name].contains(&before[key]);
    // The keys of the other one never notice; those of the dead one go to somebody else.
    let deadline = Instant::now() + WAIT_MAX;
    let mut moved = false;
    while !moved {
        assert!(Instant::now() < deadline, "never moved");
        moved = true;
        for key in keys() {
            let answer = Connection::get_once(&fleet.node("proxy").http, &key).await;
            let child = answer.map_err(|error| format!("{error:#}"));
            let child = child.and_then(|answer| who(&answer));
            if stays(&key) {
                assert_eq!(child.as_ref(), Ok(&before[&key]), "{key} moved");
            } else {
                moved &= child.is_ok_and(|child| child != before[&key]);
            }
        }
    }
    // `up` starts it again: it gets keys, and none that the other one had at first.
    let (_, after) = settled(&fleet).await;
    for key in keys().iter().filter(|key| stays(key)) {
        assert_eq!(after[key], before[key], "{key} moved");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_node_that_leaves_under_load_loses_no_request() {
    let fleet = fleet();
    let (nodes, _) = settled(&fleet).await;
    let mut loads = Vec::new();
    for proxy in fleet.nodes("proxy") {
        for key in keys().iter().take(8) {
            loads.push(Load::start(&proxy.http, key, 1, who));
        }
    }
    let leaver = &fleet.nodes("live")[0];
    let old = &nodes[&leaver.name];
    let progress = |loads: &[Load]| loads.iter().map(Load::total).sum::<u64>();
    let deadline = Instant::now() + WAIT_MAX;
    while progress(&loads) < 500 {
        assert!(Instant::now() < deadline, "no load");
        tokio::time::sleep(POLL).await;
    }
    signal(leaver.pid, Signal::TERM).unwrap();
    // Until its successor has keys of its own.
    let (now, _) = settled(&fleet).await;
    let mut now = now;
    while now[&leaver.name].iter().any(|child| old.contains(child)) {
        assert!(Instant::now() < deadline, "it never left");
        now = settled(&fleet).await.0;
    }
    let mut seen = BTreeSet::new();
    for load in loads {
        let report = load.finish().await;
        assert_eq!(report.failures, Vec::<String>::new());
        seen.extend(report.seen.into_keys());
    }
    assert!(seen.iter().any(|child| old.contains(child)), "it had keys");
    assert!(seen.iter().any(|child| now[&leaver.name].contains(child)));
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_that_start_without_a_seed_place_keys_where_they_were() {
    let fleet = fleet();
    let (_, before) = settled(&fleet).await;
    let seed = fleet.seed_pid().unwrap();
    signal(seed, Signal::STOP).unwrap();
    for proxy in fleet.nodes("proxy") {
        let children = fleet.children(&proxy).unwrap();
        signal(proxy.pid, Signal::KILL).unwrap();
        let deadline = Instant::now() + WAIT_MAX;
        let gone = |pid: &i32| signal(*pid, Signal::CONT).is_err();
        while !children.iter().chain([&proxy.pid]).all(gone) {
            assert!(Instant::now() < deadline, "the old one does not end");
            tokio::time::sleep(POLL).await;
        }
        let after = loop {
            match places(&proxy).await {
                Ok(after) => break after,
                Err(error) => assert!(Instant::now() < deadline, "{error:#}"),
            }
            tokio::time::sleep(POLL).await;
        };
        assert_eq!(after, before);
    }
    signal(seed, Signal::CONT).unwrap();
}
