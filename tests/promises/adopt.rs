//! A Seed that was started from an older copy of its disk leads nobody back: its nodes stay on what they run until an
//! operator decides.

use protoplex_tests::{Connection, Fleet, signal};
use rustix::process::Signal;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

const SWAP: &str = "tests/builds/swap.toml";
/// A Seed starts and hears from its nodes in well under this.
const SEED_WAIT_MAX: Duration = Duration::from_secs(30);
/// A catch-up begins with a node's hello, and switches in a fraction of this.
const CATCH_UP: Duration = Duration::from_secs(2);

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

fn status(fleet: &Fleet) -> Option<serde_json::Value> {
    serde_json::from_str(&fleet.run(&["status", "--json"]).unwrap().out).ok()
}

/// Waits for a Seed that all nodes have come back to.
fn seed_is_back(fleet: &Fleet) -> serde_json::Value {
    let deadline = Instant::now() + SEED_WAIT_MAX;
    loop {
        if let Some(status) = status(fleet)
            && status["nodes_connected"] == 2
        {
            return status;
        }
        assert!(Instant::now() < deadline, "the Seed did not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn seed_pid(fleet: &Fleet) -> i32 {
    let text = fs::read_to_string(fleet.data().join("up.json")).unwrap();
    let info: serde_json::Value = serde_json::from_str(&text).unwrap();
    i32::try_from(info["seed_pid"].as_i64().unwrap()).unwrap()
}

async fn greeting(fleet: &Fleet) -> String {
    let address = fleet.node("proxy").http;
    let answer = Connection::get_once(&address, "/").await.unwrap();
    answer.text().trim().to_owned()
}

/// A fleet that runs `red`, with a Seed that was started from a copy of when it ran `blue`.
async fn behind() -> Fleet {
    let fleet = Fleet::start(SWAP).unwrap();
    let disk = fleet.data().join("seed/data");
    let older = tempfile::tempdir().unwrap();
    assert_eq!(fleet.push(SWAP, &["greeting=cyan"]).unwrap().code, 0);
    assert_eq!(fleet.push(SWAP, &[]).unwrap().code, 0);
    copy(&disk, older.path());
    for color in ["green", "red"] {
        let pushed = fleet.push(SWAP, &[&format!("greeting={color}")]).unwrap();
        assert_eq!(pushed.code, 0, "{pushed:?}");
    }
    let pid = seed_pid(&fleet);
    signal(pid, Signal::STOP).unwrap();
    fs::remove_dir_all(&disk).unwrap();
    copy(older.path(), &disk);
    signal(pid, Signal::KILL).unwrap();
    seed_is_back(&fleet);
    let until = Instant::now() + CATCH_UP;
    while Instant::now() < until {
        assert_eq!(greeting(&fleet).await, "red");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let said = fleet.run(&["status"]).unwrap().out;
    for text in ["older copy", "adopt", "push", "rollback"] {
        assert!(said.contains(text), "{said}");
    }
    let log = fs::read_to_string(fleet.data().join("logs/seed.log")).unwrap();
    assert!(log.contains("orders nothing by itself"), "{log}");
    fleet
}

fn has_ended(fleet: &Fleet) {
    let status = status(fleet).unwrap();
    assert_eq!(status["hold"], serde_json::Value::Null, "{status}");
    assert_eq!(status["release"]["epoch"], 2, "above what the nodes took");
}

#[tokio::test(flavor = "multi_thread")]
async fn adopt_ends_the_hold_of_a_seed_from_an_older_copy() {
    let fleet = behind().await;
    let adopted = fleet.run(&["adopt"]).unwrap();
    assert_eq!(adopted.code, 0, "{adopted:?}");
    has_ended(&fleet);
    assert_eq!(greeting(&fleet).await, "red");
    // It is the Seed's: there is a way from it, and back to it.
    let pushed = fleet.push(SWAP, &["greeting=gold"]).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    let back = fleet.run(&["rollback"]).unwrap();
    assert_eq!(back.code, 0, "{back:?}");
    assert_eq!(greeting(&fleet).await, "red");
    let again = fleet.run(&["adopt"]).unwrap();
    assert_eq!(again.code, 5, "there is nothing to adopt: {again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn push_ends_the_hold_of_a_seed_from_an_older_copy() {
    let fleet = behind().await;
    let pushed = fleet.push(SWAP, &["greeting=gold"]).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    has_ended(&fleet);
    assert_eq!(greeting(&fleet).await, "gold");
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_ends_the_hold_of_a_seed_from_an_older_copy() {
    let fleet = behind().await;
    let back = fleet.run(&["rollback"]).unwrap();
    assert_eq!(back.code, 0, "{back:?}");
    has_ended(&fleet);
    assert_eq!(greeting(&fleet).await, "cyan");
}

/// What an older version made of one word, and what an operator writes by hand where a node is far ahead.
#[tokio::test(flavor = "multi_thread")]
async fn a_seed_with_an_epoch_of_2_to_the_53_releases_and_its_nodes_come_back() {
    const EPOCH: u64 = 1 << 53;
    let fleet = Fleet::start(SWAP).unwrap();
    let pid = seed_pid(&fleet);
    signal(pid, Signal::STOP).unwrap();
    let file = fleet.data().join("seed/data/state.json");
    let text = fs::read_to_string(&file).unwrap();
    let mut state: serde_json::Value = serde_json::from_str(&text).unwrap();
    state["epoch"] = EPOCH.into();
    fs::write(&file, state.to_string()).unwrap();
    signal(pid, Signal::KILL).unwrap();
    seed_is_back(&fleet);
    for color in ["green", "red"] {
        let pushed = fleet.push(SWAP, &[&format!("greeting={color}")]).unwrap();
        assert_eq!(pushed.code, 0, "{pushed:?}");
        assert_eq!(greeting(&fleet).await, color);
        // Its nodes have that number now, and say it to the next Seed.
        signal(seed_pid(&fleet), Signal::KILL).unwrap();
        let status = seed_is_back(&fleet);
        assert_eq!(status["release"]["epoch"], EPOCH);
        assert_eq!(status["hold"], serde_json::Value::Null, "{status}");
    }
}
