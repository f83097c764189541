use super::*;
use crate::testing::{QUEUE_MESSAGES, ready_build, supervisor, told};
use protoplex_wire::ReleaseId;

const RELEASE: ReleaseId = ReleaseId {
    epoch: 1,
    sequence: 1,
};

#[test]
fn a_child_that_does_not_read_is_killed_and_not_waited_for() {
    let mut supervisor = supervisor(2);
    let (mut idle, mut reader) = (supervisor.fake_child(0), supervisor.fake_child(1));
    for _ in 0..QUEUE_MESSAGES {
        supervisor.send_all(&ToChild::Drain);
    }
    assert_eq!(told(&mut reader).len(), QUEUE_MESSAGES);
    assert!(
        supervisor.has_process(0),
        "its queue is full, and no fuller"
    );
    supervisor.send_all(&ToChild::Drain);
    assert!(!supervisor.has_process(0) && supervisor.has_process(1));
    assert_eq!(told(&mut idle).len(), QUEUE_MESSAGES);
    assert_eq!(told(&mut reader).len(), 1);
}

#[test]
fn a_dead_childs_sockets_are_offered_to_a_sibling_and_back() {
    let mut supervisor = supervisor(2);
    let (mut first, _second) = (supervisor.fake_child(0), supervisor.fake_child(1));
    assert!(supervisor.activated(0) && supervisor.activated(1));
    assert!(!supervisor.activated(1), "it did before");
    supervisor.share_sockets();
    assert!(told(&mut first).is_empty());
    supervisor.ended(1, "a signal".into());
    supervisor.share_sockets();
    assert_eq!(told(&mut first), ["adopt"]);
    let _second = supervisor.fake_child(1);
    supervisor.share_sockets();
    assert!(told(&mut first).is_empty(), "it does not serve yet");
    supervisor.activated(1);
    supervisor.share_sockets();
    assert_eq!(told(&mut first), ["disown"]);
}

#[test]
fn words_of_a_process_that_was_replaced_do_not_count() {
    let mut supervisor = supervisor(1);
    let _first = supervisor.fake_child(0);
    assert!(supervisor.is_current(0, 1));
    supervisor.ended(0, "a signal".into());
    let _second = supervisor.fake_child(0);
    assert!(supervisor.is_current(0, 2) && !supervisor.is_current(0, 1));
}

#[test]
fn a_build_is_given_before_it_is_activated_and_not_twice() {
    let mut supervisor = supervisor(1);
    let mut child = supervisor.fake_child(0);
    let build = ready_build("a");
    supervisor.activate(0, &build, RELEASE);
    assert_eq!(told(&mut child), ["prepare", "activate"]);
    supervisor.activate(0, &build, RELEASE);
    assert_eq!(told(&mut child), ["activate"]);
    supervisor.abandon_others(RELEASE, |id| *id == build.id);
    assert!(told(&mut child).is_empty());
    supervisor.abandon_others(RELEASE, |_| false);
    supervisor.abandon_others(RELEASE, |_| false);
    assert_eq!(told(&mut child), ["abandon"]);
    supervisor.activate(0, &build, RELEASE);
    assert_eq!(told(&mut child), ["prepare", "activate"]);
}

#[test]
fn a_node_is_futile_only_when_no_child_comes_up() {
    let mut supervisor = supervisor(2);
    let _first = supervisor.fake_child(0);
    for _ in 0..9 {
        supervisor.ended(1, "exit status: 7".into());
    }
    assert_eq!(supervisor.futility(), None);
    assert_eq!(supervisor.last_end(), Some("exit status: 7"));
    for _ in 0..9 {
        supervisor.ended(0, "exit status: 9".into());
    }
    let reason = supervisor.futility().unwrap();
    assert!(reason.contains("exit status: "), "{reason}");
    assert_eq!(supervisor.order_futility(), Some(reason));
    // A process that has started may yet come up: it takes orders.
    let _first = supervisor.fake_child(0);
    assert!(supervisor.futility().is_some());
    assert_eq!(supervisor.order_futility(), None);
    supervisor.accept_without_build(0);
    assert_eq!(supervisor.futility(), None);
    assert_eq!(supervisor.restarts(), 18);
}
