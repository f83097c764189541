//! Pushes and the order they come in: stale ones, two at once, the same one twice, and one that takes too long.

use super::{SWAP, assert_said, client, greeting, plain, releases};
use protoplex_tests::{Fleet, signal};
use protoplex_wire::{
    Manifest,
    status::{ReleaseEvent, ReleaseOrder, ReleaseOutcome},
};
use rustix::process::Signal;
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Nothing here takes longer; a node that was stopped counts as gone after 5 s.
const END_TIMEOUT: Duration = Duration::from_secs(60);

async fn wait_for(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < END_TIMEOUT, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_against_another_build_is_refused_with_the_difference() {
    let fleet = Fleet::start(SWAP).unwrap();
    let blue = releases(&fleet)[0].build;
    assert_eq!(fleet.push(SWAP, &["greeting=green"]).unwrap().code, 0);
    let before = releases(&fleet);
    let stale = fleet
        .run(&[
            "push",
            SWAP,
            "--set",
            "greeting=red",
            "--against",
            &blue.short(),
        ])
        .unwrap();
    assert_said(
        &stale,
        5,
        &[
            &format!("build {} is active", before[0].build),
            &format!("made against build {blue}"),
            "~ setting greeting: \"green\" → \"red\"",
        ],
    );
    assert_eq!(releases(&fleet), before);
    assert_eq!(greeting(&fleet).await, "green");
    let unknown = fleet
        .run(&["push", SWAP, "--against", "ffffffffff"])
        .unwrap();
    assert_said(&unknown, 5, &["no build's id starts with `ffffffffff`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_pushes_at_the_same_time_the_second_is_told_about_the_first() {
    let fleet = Fleet::start(SWAP).unwrap();
    let client = client(&fleet);
    // The Seed knows them all, so that little is left to be done while the app node counts as there.
    for color in ["greeting=red", "greeting=green", "greeting=blue"] {
        assert_eq!(fleet.push(SWAP, &[color]).unwrap().code, 0);
    }
    let order = ReleaseOrder {
        build: releases(&fleet)[1].build,
        made_against: None,
    };
    let app = fleet.node("app").pid;
    signal(app, Signal::STOP).unwrap();
    let mut first = client.release(&order).await.unwrap();
    let running = client.status().await.unwrap().running.unwrap();
    let second = fleet.push(SWAP, &["greeting=red"]);
    signal(app, Signal::CONT).unwrap();
    assert_said(
        &second.unwrap(),
        5,
        &["refused (busy)", &format!("release {running} is going on")],
    );
    let record = loop {
        if let ReleaseEvent::Finished(record) = first.next().await.unwrap().unwrap() {
            break record;
        }
    };
    assert_eq!(record.outcome, ReleaseOutcome::Promoted, "{}", fleet.logs());
    assert_eq!(greeting(&fleet).await, "green");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_takes_too_long_exits_with_four_and_its_release_goes_on() {
    let fleet = Fleet::start(SWAP).unwrap();
    let app = fleet.node("app").pid;
    signal(app, Signal::STOP).unwrap();
    let pushed = fleet.run(&["push", SWAP, "--set", "greeting=green", "--timeout", "1"]);
    signal(app, Signal::CONT).unwrap();
    let pushed = pushed.unwrap();
    assert_said(&pushed, 4, &["the release still runs after 1 s"]);
    wait_for("its end", async || {
        releases(&fleet)[0].outcome != ReleaseOutcome::Running
    })
    .await;
    assert_eq!(
        releases(&fleet)[0].outcome,
        ReleaseOutcome::Promoted,
        "{}",
        fleet.logs()
    );
    assert_eq!(greeting(&fleet).await, "green");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_says_nothing_more_reverts_the_release_with_three() {
    let fleet = Fleet::start(SWAP).unwrap();
    let app = fleet.node("app").pid;
    signal(app, Signal::STOP).unwrap();
    let pushed = fleet.push(SWAP, &["greeting=green"]);
    signal(app, Signal::CONT).unwrap();
    assert_said(&pushed.unwrap(), 3, &["was reverted: ", "app-1"]);
    assert_eq!(greeting(&fleet).await, "blue");
}

#[test]
fn a_set_makes_another_build_and_the_same_one_is_the_same() {
    let fleet = Fleet::start(SWAP).unwrap();
    let id = |sets: &[&str]| {
        let said = plain(&fleet, &[&["build", SWAP, "--json"], sets].concat());
        assert_eq!(said.code, 0, "{said:?}");
        Manifest::parse(said.out.trim().as_bytes()).unwrap().id()
    };
    assert_eq!(id(&[]), id(&["--set", "greeting=blue"]));
    assert_ne!(id(&[]), id(&["--set", "greeting=green"]));
    assert_eq!(releases(&fleet)[0].build, id(&[]));
    assert_eq!(fleet.push(SWAP, &["greeting=green"]).unwrap().code, 0);
    assert_eq!(releases(&fleet)[0].build, id(&["--set", "greeting=green"]));
}

#[test]
fn the_same_build_twice_uploads_nothing() {
    let fleet = Fleet::start(SWAP).unwrap();
    let blobs = fleet.data().join("seed/data/blobs");
    let stored = stamps(&blobs);
    assert!(!stored.is_empty());
    assert_eq!(fleet.push(SWAP, &[]).unwrap().code, 0);
    // An upload, even of the same bytes, puts a new file in place.
    assert_eq!(stamps(&blobs), stored);
    assert_eq!(fleet.push(SWAP, &["greeting=green"]).unwrap().code, 0);
    assert_eq!(stamps(&blobs).len(), stored.len() + 1, "the manifest alone");
}

/// Every file, with what changes when it is written again.
fn stamps(folder: &Path) -> Vec<(PathBuf, u64, i64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(stamps(&entry.path()));
        } else {
            let metadata = entry.metadata().unwrap();
            found.push((entry.path(), metadata.ino(), metadata.mtime_nsec()));
        }
    }
    found.sort();
    found
}
