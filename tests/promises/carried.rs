//! Handlers that a switch carries over, keeps for later, or drops.

use protoplex_tests::{Connection, Fleet};
use std::{collections::HashSet, fs, path::PathBuf};

const LIMITS: &str = "tests/builds/limits.toml";
const HELLO: &str = "tests/builds/hello.toml";
const HELLO_B: &str = "tests/builds/hello-b.toml";
const SWAP: &str = "tests/builds/swap.toml";
/// Builds that differ from each other, one after the other.
const PUSHES: usize = 80;
/// Memory is compared between this push, when everything has been used, and the last.
const WARM_AFTER: usize = 20;
const MEMORY_GROWTH_MAX: f64 = 1.05;
/// A node holds three builds: their manifests and at most two components here.
const BLOBS_MAX: usize = 5;

fn push(fleet: &Fleet, build: &str, sets: &[&str]) {
    let pushed = tokio::task::block_in_place(|| fleet.push(build, sets)).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
}

/// The count of `/count`: requests that the one instance behind this connection has seen.
async fn count(connection: &mut Connection) -> u64 {
    let answer = connection.get("/count").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().trim().parse().unwrap()
}

/// An instance goes on through a push that does not concern its handler, and not through one that does.
#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_handler_is_carried_over_warm_and_a_changed_one_is_not() {
    const REQUESTS: u64 = 20;
    let folder = tempfile::tempdir().unwrap();
    let changed = folder.path().join("changed.toml");
    let text = fs::read_to_string(protoplex_tests::repository().join(LIMITS)).unwrap();
    let out = protoplex_tests::repository().join("builds/out");
    let text = text
        .replace("../../builds/out", out.to_str().unwrap())
        .replace("memory_bytes_max = 8388608", "memory_bytes_max = 8454144")
        .replace("cpu_ms_max = 200", "cpu_ms_max = 201");
    fs::write(&changed, text).unwrap();

    let fleet = Fleet::start(LIMITS).unwrap();
    let mut connections = Vec::new();
    for role in ["proxy", "app"] {
        let address = fleet.node(role).http;
        connections.push((role, Connection::open(&address).await.unwrap(), 0));
    }
    for (role, connection, before) in &mut connections {
        for _ in 0..REQUESTS {
            *before = count(connection).await;
        }
        assert!(
            *before >= REQUESTS,
            "{role}: one instance answers: {before}"
        );
    }
    push(&fleet, LIMITS, &["shown=new"]);
    for (role, connection, before) in &mut connections {
        let after = count(connection).await;
        assert!(after > *before, "{role}: {after} after {before}");
    }
    // Carried over, it sees the new build's settings all the same.
    let (_, proxy, _) = &mut connections[0];
    assert_eq!(
        proxy.get("/setting?shown").await.unwrap().text().trim(),
        "new"
    );
    push(&fleet, changed.to_str().unwrap(), &["shown=new"]);
    for (role, connection, before) in &mut connections {
        let after = count(connection).await;
        assert!(after < *before, "{role}: {after} after {before}");
    }
}

/// The build before stays loaded, but holds no instance of what does not answer any more.
#[tokio::test(flavor = "multi_thread")]
async fn idle_instances_of_a_build_that_was_switched_away_go() {
    const INSTANCES: &str = "protoplex_pool_instances";
    let fleet = Fleet::start(HELLO).unwrap();
    let before = fleet.metric("proxy", INSTANCES).await.unwrap();
    assert!(before >= 2.0, "each child keeps one: {before}");
    push(&fleet, HELLO_B, &[]);
    fleet
        .wait_for_metric("proxy", INSTANCES, |now| now <= before)
        .await;
    let back = tokio::task::block_in_place(|| fleet.run(&["rollback"])).unwrap();
    assert_eq!(back.code, 0, "{back:?}");
    let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
    assert_eq!(connection.get("/").await.unwrap().text().trim(), "hello");
}

fn node_data(fleet: &Fleet) -> PathBuf {
    fleet.data().join("nodes/proxy-1/data")
}

fn blobs(fleet: &Fleet) -> HashSet<String> {
    let shards = fs::read_dir(node_data(fleet).join("blobs")).unwrap();
    shards
        .flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap())
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The ids of the builds that a node holds, the active one first.
fn held(fleet: &Fleet) -> Vec<String> {
    let state = fs::read_to_string(node_data(fleet).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let held = state["held"].as_array().unwrap().iter();
    held.map(|held| held["build"].as_str().unwrap().to_owned())
        .collect()
}

/// Guarantee 10: after a restart a node has read only the build that answers. What it has not read yet, it must not
/// take for unused.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_after_a_restart_removes_nothing_of_the_builds_before() {
    let mut fleet = Fleet::start(SWAP).unwrap();
    push(&fleet, SWAP, &["greeting=green"]);
    push(&fleet, HELLO_B, &[]);
    let before = held(&fleet);
    assert_eq!(before.len(), 3);
    tokio::task::block_in_place(|| fleet.restart(SWAP)).unwrap();
    // As small a change as there is: the component is HELLO_B's.
    push(&fleet, HELLO_B, &["greeting=other"]);
    let now = held(&fleet);
    assert_eq!(now[1..], before[..2]);
    let blobs = blobs(&fleet);
    for build in &now {
        assert!(blobs.contains(build), "the manifest of {build} is gone");
        let shard = node_data(&fleet).join("blobs").join(&build[..2]);
        let manifest = fs::read_to_string(shard.join(build)).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        let component = manifest["handlers"]["hello"]["component"].as_str().unwrap();
        assert!(
            blobs.contains(component),
            "the component of {build} is gone"
        );
    }
}

/// Every push another build: what no build in use needs goes, from memory and from disk.
#[tokio::test(flavor = "multi_thread")]
async fn builds_that_are_not_held_any_more_leave_nothing_behind() {
    let fleet = Fleet::start(HELLO).unwrap();
    let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
    let mut early = [0; 2];
    for number in 1..=PUSHES {
        let build = [HELLO, HELLO_B][number % 2];
        push(&fleet, build, &[&format!("greeting=number-{number:04}")]);
        let answer = connection.get("/").await.unwrap();
        let expected = format!("number-{number:04}");
        assert!(answer.text().contains(&expected), "{}", answer.text());
        let memory = ["proxy", "app"].map(|role| fleet.private_bytes(role).unwrap());
        if number == WARM_AFTER {
            early = memory;
        } else if number == PUSHES {
            for (early, late) in early.iter().zip(memory) {
                let growth = late as f64 / *early as f64;
                assert!(
                    growth <= MEMORY_GROWTH_MAX,
                    "{growth:.3}: {early} {memory:?}"
                );
            }
        }
    }
    assert!(blobs(&fleet).len() <= BLOBS_MAX, "{:?}", blobs(&fleet));
}
