//! `up`: how it ends, and that one data folder has one of it.

use super::{SWAP, plain};
use protoplex_tests::{Connection, Fleet, children, signal};
use rustix::process::Signal;
use std::{collections::BTreeSet, fs, path::Path, time::Duration};

/// Time of a client to finish: `up` gives requests in flight 10 s.
const SLOW_VISITOR: Duration = Duration::from_secs(6);

/// A process and all that it started, and they, and so on.
fn tree(pid: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::from([pid]);
    for child in children(pid).unwrap_or_default() {
        found.extend(tree(child));
    }
    found
}

/// Whether it still does anything; one that only waits to be reaped does not.
fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_finishes_what_is_in_flight_and_leaves_no_process_behind() {
    let mut fleet = Fleet::start("builds/sample.toml").unwrap();
    let processes = tree(fleet.pid());
    // `up`, the Seed, two nodes, and two children of each at least.
    assert!(processes.len() >= 8, "{processes:?}");
    let registry = Path::new(fleet.info["data"].as_str().unwrap()).with_file_name("registry");
    assert_eq!(fs::read_dir(registry.join("protoplex")).unwrap().count(), 1);

    let address = fleet.node("proxy").http;
    let mut visitor = Connection::open(&address).await.unwrap();
    let head = "POST /api/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8\r\n\r\nhalf";
    visitor.write(head.as_bytes()).await.unwrap();
    // The echo has begun, and waits for the rest.
    let echoed = visitor.response(true).await.unwrap();
    signal(fleet.pid(), Signal::INT).unwrap();
    // A node that drains is not ready; its health port answers until it is gone.
    let health = fleet.node("proxy").health;
    let is_ready = async || {
        let answer = Connection::get_once(&health, "/readyz").await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    while is_ready().await {}
    // Less than the drain's deadline, and more than a child may be silent when it does not drain.
    tokio::time::sleep(SLOW_VISITOR).await;
    visitor.write(b"done").await.unwrap();
    let echoed = visitor.rest(echoed).await.unwrap();
    assert_eq!((echoed.status, echoed.text().as_str()), (200, "halfdone"));

    let code = tokio::task::block_in_place(|| fleet.stopped()).unwrap();
    assert_eq!(code, 0);
    let left: Vec<_> = processes.into_iter().filter(|&pid| lives(pid)).collect();
    assert!(left.is_empty(), "{left:?} are left");
    assert_eq!(fs::read_dir(registry.join("protoplex")).unwrap().count(), 0);
    assert!(!fleet.data().join("up.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_up_on_the_same_data_says_who_holds_it() {
    let fleet = Fleet::start(SWAP).unwrap();
    let data = fleet.data().to_str().unwrap();
    let second = plain(
        &fleet,
        &["up", "--port-base", "0", "--json", "--data", data],
        &[],
    );
    assert_eq!((second.code, second.out.as_str()), (1, ""), "{second:?}");
    let words = format!(
        "another `up` (process {}) runs on {data}; stop it",
        fleet.pid()
    );
    assert!(second.err.contains(&words), "{second:?}");
    let answer = Connection::get_once(&fleet.node("proxy").http, "/")
        .await
        .unwrap();
    assert_eq!(answer.text().trim(), "blue");
}

#[test]
fn an_up_whose_first_build_is_refused_says_why_and_leaves_no_process_behind() {
    let fleet = Fleet::start(SWAP).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    for (build, words) in [
        ("tests/builds/broken-module.toml", "it is a core module"),
        (
            "tests/builds/broken-start.toml",
            "at warm-up: handler `broken`",
        ),
    ] {
        let args = [
            "up",
            "--port-base",
            "0",
            "--json",
            "--data",
            data,
            "--build",
            build,
        ];
        let failed = plain(&fleet, &args, &[]);
        assert!([1, 5].contains(&failed.code), "{failed:?}");
        assert_eq!(failed.out, "", "{failed:?}");
        assert!(failed.err.contains(words), "{failed:?}");
    }
    let alive = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        line.contains(data)
    });
    assert_eq!(alive.count(), 0);
}
