use super::*;
use crate::testing::{connected_voice, said, supervisor, told};
use protoplex_wire::{directory::Placed, manifest::Role, status::Addresses};
use tokio::sync::mpsc::Receiver;

#[test]
fn a_damaged_directory_is_set_aside_and_the_node_starts() {
    let dir = tempfile::tempdir().unwrap();
    let damaged = r#"{"hop_key":"ab","version":7,"nod"#;
    std::fs::write(dir.path().join(FILE), damaged).unwrap();
    assert_eq!(DirectoryKeeper::open(dir.path()).unwrap().version(), 0);
    let aside = dir.path().join("directory.json.damaged");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), damaged);
}

/// A frame of a snapshot with one member of that name.
fn frame(version: u64, name: &str, more: bool) -> DirectoryFrame {
    let member = Member {
        role: Role::App,
        region: String::new(),
        addresses: Addresses::default(),
        child_addresses: Vec::new(),
        capacity: 1,
        cordoned: false,
    };
    DirectoryFrame {
        version,
        members: [(name.to_owned(), member)].into(),
        slots: Placed::new(),
        more,
    }
}

fn delta(from: u64, to: u64) -> Delta {
    Delta {
        from,
        to,
        ..Delta::default()
    }
}

fn acknowledged(messages: &mut Receiver<FromNode>) -> Vec<u64> {
    let version = |message| match message {
        FromNode::DirectoryAck { version } => version,
        other => panic!("{other:?}"),
    };
    said(messages).into_iter().map(version).collect()
}

#[test]
fn a_directory_is_acknowledged_once_every_child_relays_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = DirectoryKeeper::open(dir.path()).unwrap();
    let mut supervisor = supervisor(3);
    let (mut first, mut second) = (supervisor.fake_child(0), supervisor.fake_child(1));
    let (mut seed, mut messages) = connected_voice();
    keeper.take_frame(frame(7, "a", false), &mut supervisor, &mut seed);
    assert_eq!(told(&mut first), ["directory"]);
    assert_eq!(told(&mut second), ["directory"]);
    assert_eq!(said(&mut messages), [], "no child has it yet");
    supervisor.set_directory(0, 7);
    keeper.acknowledge(&supervisor, &mut seed);
    assert_eq!(said(&mut messages), [], "one child lacks it");
    // The third child takes no orders: it has not started.
    supervisor.set_directory(1, 7);
    keeper.acknowledge(&supervisor, &mut seed);
    keeper.acknowledge(&supervisor, &mut seed);
    assert_eq!(acknowledged(&mut messages), [7]);
    // Another link has heard nothing.
    keeper.link_connected();
    keeper.acknowledge(&supervisor, &mut seed);
    assert_eq!(acknowledged(&mut messages), [7]);
}

#[test]
fn a_child_that_has_gone_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = DirectoryKeeper::open(dir.path()).unwrap();
    let mut supervisor = supervisor(2);
    let _queues = [supervisor.fake_child(0), supervisor.fake_child(1)];
    let (mut seed, mut messages) = connected_voice();
    keeper.take_frame(frame(7, "a", false), &mut supervisor, &mut seed);
    supervisor.set_directory(0, 7);
    supervisor.ended(1, "a signal".into());
    keeper.acknowledge(&supervisor, &mut seed);
    assert_eq!(acknowledged(&mut messages), [7]);
}

#[test]
fn a_snapshot_counts_when_its_last_frame_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = DirectoryKeeper::open(dir.path()).unwrap();
    let mut supervisor = supervisor(1);
    let mut child = supervisor.fake_child(0);
    let (mut seed, _messages) = connected_voice();
    keeper.take_frame(frame(7, "a", true), &mut supervisor, &mut seed);
    assert_eq!(keeper.version(), 0);
    assert!(told(&mut child).is_empty());
    // The link breaks: the frame of before is not mixed with those of another snapshot.
    keeper.link_connected();
    for (name, more) in [("b", true), ("c", false)] {
        keeper.take_frame(frame(8, name, more), &mut supervisor, &mut seed);
    }
    let members = keeper.kept.directory.members.keys().collect::<Vec<_>>();
    assert_eq!(keeper.version(), 8);
    assert_eq!(members, ["b", "c"]);
    assert_eq!(told(&mut child), ["directory"]);
    let again = DirectoryKeeper::open(dir.path()).unwrap();
    assert_eq!(again.kept.directory, keeper.kept.directory, "on disk");
}

#[test]
fn a_change_that_does_not_fit_asks_for_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = DirectoryKeeper::open(dir.path()).unwrap();
    let mut supervisor = supervisor(1);
    let mut child = supervisor.fake_child(0);
    let (mut seed, mut messages) = connected_voice();
    keeper.take_frame(frame(7, "a", false), &mut supervisor, &mut seed);
    keeper.take_delta(delta(7, 8), &mut supervisor, &mut seed);
    assert_eq!(told(&mut child), ["directory", "directory-delta"]);
    assert_eq!(said(&mut messages), []);
    keeper.take_delta(delta(9, 10), &mut supervisor, &mut seed);
    let wanted = FromNode::DirectoryWanted { held: 8 };
    assert_eq!(said(&mut messages), [wanted]);
    assert!(told(&mut child).is_empty());
}

#[test]
fn a_new_hop_key_goes_to_every_child_and_a_known_one_to_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = DirectoryKeeper::open(dir.path()).unwrap();
    let mut supervisor = supervisor(1);
    let mut child = supervisor.fake_child(0);
    let (mut seed, _messages) = connected_voice();
    for key in ["ab", "ab", "cd"] {
        keeper.take_hop_key(key.into(), &mut supervisor, &mut seed);
    }
    assert_eq!(told(&mut child), ["directory", "directory"]);
    let again = DirectoryKeeper::open(dir.path()).unwrap();
    assert_eq!(again.kept.hop_key, "cd", "on disk");
}
