//! What happens to a node's files and outputs around it stops nobody who is served, and is named where it stops a start.

use protoplex_tests::{Connection, Fleet, Node, program, repository, signal};
use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::Signal,
};
use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tokio::time::timeout;

const SWAP: &str = "tests/builds/swap.toml";
/// A client that waits longer waits in vain.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// What takes no compiler and waits for no deadline has happened by then, on a busy machine too.
const SOON: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

async fn status(node: &Node) -> Option<u16> {
    let answer = timeout(ANSWER_MAX, Connection::get_once(&node.http, "/")).await;
    answer
        .expect("nobody waits")
        .ok()
        .map(|answer| answer.status)
}

/// Asks until that is the answer.
async fn until_status(node: &Node, expected: u16) {
    let deadline = Instant::now() + SOON * 3;
    loop {
        let found = timeout(SOON, Connection::get_once(&node.http, "/")).await;
        let found = found.expect("nobody waits for ever").ok();
        if found.as_ref().is_some_and(|found| found.status == expected) {
            return;
        }
        assert!(Instant::now() < deadline, "never {expected}: {found:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// Kills all children of a node at once.
fn kill_children(fleet: &Fleet, node: &Node) {
    for child in fleet.children(node).unwrap() {
        signal(child, Signal::KILL).unwrap();
    }
}

fn push(fleet: &Fleet, greeting: &str) -> (protoplex_tests::Pushed, Duration) {
    let begun = Instant::now();
    let set = format!("greeting={greeting}");
    let pushed = tokio::task::block_in_place(|| fleet.push(SWAP, &[&set])).unwrap();
    (pushed, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn side_files_damaged_at_run_time_keep_no_child_from_starting() {
    let fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    for file in [
        "keys/live.json",
        "pki/ca.pem",
        "pki/public.pem",
        "pki/proxy-1.key",
    ] {
        File::create(fleet.data().join(file)).unwrap();
    }
    fs::remove_file(fleet.data().join("pki/public.key")).unwrap();
    kill_children(&fleet, &proxy);
    until_status(&proxy, 200).await;
    // The certificates' damage was seen, and changed nothing.
    let deadline = Instant::now() + SOON;
    while !fleet.logs().contains("new certificates cannot be used") {
        assert!(Instant::now() < deadline, "{}", fleet.logs());
        tokio::time::sleep(POLL).await;
    }
    kill_children(&fleet, &proxy);
    until_status(&proxy, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_child_comes_up_clients_and_releases_are_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("protoplex");
    fs::copy(program().unwrap(), &copy).unwrap();
    let fleet = Fleet::start_of(&copy, SWAP, &[]).unwrap();
    let proxy = fleet.node("proxy");
    // What the kernel calls a program that was removed: children are started from there.
    let replaced = folder.path().join("protoplex (deleted)");
    fs::write(&replaced, "#!/bin/sh\necho no luck today >&2\nexit 1\n").unwrap();
    fs::set_permissions(&replaced, Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(&copy).unwrap();
    kill_children(&fleet, &proxy);
    until_status(&proxy, 503).await;
    let (pushed, took) = push(&fleet, "never");
    assert_eq!(pushed.code, 3, "{pushed:?}");
    let why =
        "no child of this node comes up; the last one ended with exit status: 1: no luck today";
    assert!(pushed.out.contains(why), "{pushed:?}");
    assert!(took < SOON, "{took:?}");
    let shown = fleet.run(&["status"]).unwrap();
    assert!(shown.out.contains("no luck today"), "{shown:?}");
    // Starting goes on, and not as fast as it can: of two children, once a second each.
    let ends = || fleet.logs_of("proxy-1").matches("a child ended").count();
    let before = ends();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let more = ends() - before;
    assert!((2..=16).contains(&more), "{more} in five seconds");
    fs::remove_file(&replaced).unwrap();
    until_status(&proxy, 200).await;
    assert_eq!(push(&fleet, "again").0.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_with_damaged_secrets_ends_and_names_the_file() {
    let begun = Instant::now();
    let started = Fleet::start_prepared(SWAP, &["--nodes", "live=1"], |data| {
        fs::create_dir(data.join("keys"))?;
        fs::write(data.join("keys/live.json"), "")
    });
    let error = format!("{:#}", started.err().expect("it cannot start"));
    assert!(error.contains("keys/live.json"), "{error}");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    // Without live nodes nobody needs them.
    let fleet = Fleet::start_prepared(SWAP, &[], |data| {
        fs::create_dir(data.join("keys"))?;
        fs::write(data.join("keys/live.json"), "")
    });
    assert_eq!(status(&fleet.unwrap().node("proxy")).await, Some(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_are_pipes_nobody_reads_stop_no_node() {
    let pipe = |path: &Path| Ok(mkfifoat(CWD, path, Mode::RWXU)?);
    let fleet = Fleet::start_prepared(SWAP, &["--access-log"], |data| {
        fs::create_dir(data.join("logs"))?;
        pipe(&data.join("logs/proxy-1.access.log"))?;
        pipe(&data.join("logs/proxy-1.log"))
    });
    let fleet = fleet.unwrap();
    let proxy = fleet.node("proxy");
    assert_eq!(status(&proxy).await, Some(200));
    kill_children(&fleet, &proxy);
    until_status(&proxy, 200).await;
    assert_eq!(push(&fleet, "on").0.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_has_its_exit_code_also_where_nobody_reads_it() {
    let fleet = Fleet::start(SWAP).unwrap();
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let run = |args: &[&str], stdout: Stdio| {
        let mut command = fleet.command(args).unwrap();
        command.arg("--data").arg(fleet.data()).stdout(stdout);
        tokio::task::block_in_place(|| command.status().unwrap().code())
    };
    for (args, greeting) in [(&["push", SWAP][..], "a"), (&["push", SWAP, "--json"], "b")] {
        let set = format!("greeting={greeting}");
        assert_eq!(run(&[args, &["--set", &set]].concat(), full()), Some(0));
        let proxy = fleet.node("proxy");
        let answer = Connection::get_once(&proxy.http, "/").await.unwrap();
        assert!(answer.text().contains(greeting), "{answer:?}");
    }
    assert_eq!(run(&["rollback"], full()), Some(0));
    // A reader that leaves does not turn a failure into a success.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let trap = ["push", SWAP, "--set", "greeting=c", "--timeout", "0"];
    assert_ne!(run(&trap, writer.into()), Some(0));
}

#[test]
fn too_few_descriptors_are_named_and_not_taken_for_ports() {
    let error = Fleet::start_within(32, SWAP, &["--nodes", "live=1"]).err();
    let error = format!("{:#}", error.expect("it cannot start"));
    assert!(error.contains("Too many open files"), "{error}");
    assert!(error.contains("ulimit -n"), "{error}");
}

#[test]
fn a_manifest_without_an_end_is_refused() {
    let mut command = Command::new(program().unwrap());
    command
        .args(["build", "/dev/zero"])
        .current_dir(repository());
    let said = protoplex_tests::said(&mut command).unwrap();
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.err.contains("it is no regular file"), "{said:?}");
}

/// Whether a child of the node has a ring.
fn has_ring(fleet: &Fleet, node: &Node) -> bool {
    let children = fleet.children(node).unwrap();
    let folders = children.iter().map(|child| format!("/proc/{child}/fd"));
    let mut all = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    all.any(|fd| {
        fs::read_link(fd.unwrap().path())
            .is_ok_and(|to| to.to_string_lossy().contains("[io_uring]"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_io_uring_serves_as_any() {
    const SAYS: &str = "sends go out one by one";
    let usual = Fleet::start(SWAP).unwrap();
    let proxy = usual.node("proxy");
    assert_eq!(status(&proxy).await, Some(200));
    let says = usual.logs_of(&proxy.name).contains(SAYS);
    assert_ne!(
        has_ring(&usual, &proxy),
        says,
        "it has one, or says why not"
    );
    drop(usual);
    let without = Fleet::start_env(SWAP, &[], &[("PROTOPLEX_IO_URING", "0")]).unwrap();
    let proxy = without.node("proxy");
    assert_eq!(status(&proxy).await, Some(200));
    assert!(!has_ring(&without, &proxy));
    assert!(without.logs_of(&proxy.name).contains(SAYS));
}
