//! Events as a node without processes takes them: what is said, to whom, and in which order.

use super::*;
use crate::{
    supervisor::OutgoingMessage,
    testing::{
        RecordedLink, leaving, newcomers, profile, ready_build, releases, said, supervisor, told,
    },
};
use protoplex_wire::ReleaseId;
use std::path::Path;
use tokio::sync::mpsc::Receiver;

const RELEASE: ReleaseId = ReleaseId {
    epoch: 1,
    sequence: 1,
};

/// A node with one child, whose process has said nothing yet, and no link.
fn actor(dir: &Path) -> (Actor, Receiver<OutgoingMessage>) {
    let mut supervisor = supervisor(1);
    let child = supervisor.fake_child(0);
    let actor = Actor::new(ActorParts {
        profile: profile(),
        supervisor,
        releases: releases(dir).0,
        directory: DirectoryKeeper::open(dir).unwrap(),
        leaving: leaving(),
        newcomers: newcomers(),
        ready: Arc::default(),
    });
    (actor, child)
}

/// An event of the child's process of that generation.
fn says(generation: u64, message: FromChild) -> ChildEvent {
    ChildEvent {
        child: 0,
        generation,
        kind: ChildEventKind::Said(message, Vec::new()),
    }
}

fn activated() -> FromChild {
    FromChild::Activated {
        release: RELEASE,
        build: ready_build("a").id,
    }
}

/// Gives the node a link, and returns what is said on it.
fn connect(actor: &mut Actor) -> Receiver<FromNode> {
    let (link, messages) = RecordedLink::new(9);
    actor.seed.connected(link);
    messages
}

#[tokio::test]
async fn a_child_that_starts_without_a_build_accepts_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (mut actor, mut child) = actor(dir.path());
    actor.child_event(says(1, FromChild::Started));
    assert_eq!(told(&mut child), ["directory", "tickets", "adopt"]);
    assert!(actor.is_ready(), "that there is no build is no fault");
}

#[tokio::test]
async fn words_of_a_process_that_was_replaced_are_not_heard() {
    let dir = tempfile::tempdir().unwrap();
    let (mut actor, mut child) = actor(dir.path());
    actor.child_event(says(0, FromChild::Started));
    assert!(told(&mut child).is_empty());
}

#[tokio::test]
async fn the_first_serving_child_makes_the_node_ready_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut actor, _child) = actor(dir.path());
    let mut messages = connect(&mut actor);
    assert!(!actor.ready.load(Relaxed));
    (0..2).for_each(|_| actor.child_event(says(1, activated())));
    assert!(actor.ready.load(Relaxed));
    let heard = said(&mut messages);
    let is_beat = |message: &FromNode| matches!(message, FromNode::Heartbeat(beat) if beat.children_ready == 1);
    assert!(heard.len() == 1 && is_beat(&heard[0]), "{heard:?}");
}

#[tokio::test]
async fn a_node_that_leaves_is_not_ready_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (mut actor, _child) = actor(dir.path());
    actor.child_event(says(1, activated()));
    let mut messages = connect(&mut actor);
    actor.leave();
    assert!(!actor.ready.load(Relaxed));
    assert_eq!(said(&mut messages), [FromNode::Leaving]);
    assert!(actor.view().hello().leaving);
    // Nor does a child that serves meanwhile make it ready.
    actor.service_changed();
    assert!(!actor.ready.load(Relaxed));
}
