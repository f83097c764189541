//! Which answer an order gets, when, and what children are told before it.

use super::*;

#[tokio::test]
async fn prepared_and_ack_follow_the_childs_word_and_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, build) = Node::with_ready(dir.path());
    let release = number(1, 1);
    node.prepare(release, &build);
    assert_eq!(node.told(), ["prepare"]);
    assert_eq!(node.answers(), []);
    node.report(release, build.id, Ok(StepKind::Prepare));
    assert_eq!(node.answers(), [Answer::Prepared(release)]);
    node.activate(release, build.id);
    assert_eq!(node.told(), ["activate"]);
    assert_eq!(node.answers(), []);
    assert_eq!(node.releases.active(), None);
    node.report(release, build.id, Ok(StepKind::Activate));
    assert_eq!(node.answers(), [Answer::Ack(release)]);
    assert_eq!(node.releases.active(), Some(build.id));
    let on_disk = Store::open(dir.path()).unwrap().state().clone();
    assert_eq!(on_disk.active, Some(build.id));
}

#[tokio::test]
async fn a_late_child_is_given_the_active_build_and_joins_the_step() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, first) = Node::with_ready(dir.path());
    let release = number(1, 1);
    node.activate(release, first.id);
    node.report(release, first.id, Ok(StepKind::Activate));
    let second = ready_build("b");
    node.releases.ready.insert(&second);
    node.activate(number(1, 2), second.id);
    assert_eq!(node.answers(), [Answer::Ack(release)]);
    let mut late = node.supervisor.fake_child(1);
    node.releases.child_started(1, &mut node.supervisor);
    let all = ["prepare", "prepare", "activate", "activate"];
    assert_eq!(told(&mut late), all);
    node.report(number(1, 2), second.id, Ok(StepKind::Activate));
    assert_eq!(node.answers(), [], "the late child is waited for");
    node.child_gone(1, "a signal");
    assert_eq!(node.answers(), [Answer::Ack(number(1, 2))]);
}

#[tokio::test]
async fn builds_of_a_release_that_failed_elsewhere_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, build) = Node::with_ready(dir.path());
    let release = number(1, 1);
    node.prepare(release, &build);
    node.report(release, build.id, Ok(StepKind::Prepare));
    assert_eq!(node.told(), ["prepare"]);
    node.abandon(release);
    assert!(!node.releases.ready.contains(&build.id));
    assert_eq!(node.told(), ["abandon"]);
    // Not so what is being prepared just now.
    node.releases.ready.insert(&build);
    node.prepare(number(1, 2), &build);
    assert_eq!(node.told(), ["prepare"]);
    node.abandon(release);
    assert!(node.told().is_empty());
    // Until that is abandoned, too.
    node.abandon(number(1, 2));
    assert_eq!(node.told(), ["abandon"]);
    assert!(node.releases.step.is_none());
}

#[tokio::test]
async fn an_envelope_of_another_build_is_no_signature() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, build) = Node::with_ready(dir.path());
    let other = ready_build("b").envelope.clone();
    let (supervisor, seed) = (&mut node.supervisor, &mut node.seed);
    let release = number(1, 1);
    node.releases
        .prepare(release, build.id, other, supervisor, seed);
    let reason = "the envelope is for another build".to_owned();
    assert_eq!(
        node.answers(),
        [Answer::Nack(release, Stage::Signature, reason)]
    );
    assert_eq!(node.releases.state().release, ReleaseId::default());
}

#[tokio::test]
async fn a_build_whose_files_cannot_be_had_is_refused_by_their_stage() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(dir.path());
    let build = ready_build("a");
    for release in [number(1, 1), number(1, 2)] {
        node.prepare(release, &build);
        assert_eq!(node.answers(), [], "the files are being made ready");
    }
    // What was made ready for an order that another one replaced is dropped.
    for _ in 0..2 {
        let made = node.made.recv().await.unwrap();
        let is_current = made.release == number(1, 2);
        let (supervisor, seed) = (&mut node.supervisor, &mut node.seed);
        node.releases.build_made(made, supervisor, seed);
        let refused = node.answers();
        assert_eq!(refused.len(), usize::from(is_current), "{refused:?}");
        let is_signature = |answer: &Answer| matches!(answer, Answer::Nack(release, Stage::Signature, _) if *release == number(1, 2));
        assert!(refused.iter().all(is_signature), "{refused:?}");
    }
    assert!(node.told().is_empty());
}

#[tokio::test]
async fn a_build_that_was_not_prepared_is_not_activated() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(dir.path());
    let build = ready_build("a").id;
    node.activate(number(1, 1), build);
    let reason = format!("build {} was not prepared here", build.short());
    let nack = Answer::Nack(number(1, 1), Stage::Protocol, reason);
    assert_eq!(node.answers(), [nack]);
}

#[tokio::test]
async fn where_no_child_comes_up_orders_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, build) = Node::with_ready(dir.path());
    node.prepare(number(1, 1), &build);
    for child in [0, 0, 1, 1] {
        node.child_gone(child, "exit status: 9");
    }
    let refused = node.answers();
    let is_warm_up = |answer: &Answer| matches!(answer, Answer::Nack(_, Stage::WarmUp, reason) if reason.ends_with("exit status: 9"));
    assert!(
        refused.len() == 1 && refused.iter().all(is_warm_up),
        "{refused:?}"
    );
    node.prepare(number(1, 2), &build);
    node.activate(number(1, 2), build.id);
    let refused = node.answers();
    assert!(
        refused.len() == 2 && refused.iter().all(is_warm_up),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_child_that_cannot_prepare_refuses_for_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, build) = Node::with_ready(dir.path());
    node.prepare(number(1, 1), &build);
    node.report(number(1, 1), build.id, Err(fault(Stage::Link, "no import")));
    let nack = Answer::Nack(number(1, 1), Stage::Link, "no import".into());
    assert_eq!(node.answers(), [nack]);
    assert_eq!(node.told(), ["prepare", "abandon"]);
    assert!(!node.releases.ready.contains(&build.id));
}

#[tokio::test]
async fn a_failed_switch_takes_children_back_to_the_active_build() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, good) = Node::with_ready(dir.path());
    node.activate(number(1, 1), good.id);
    node.report(number(1, 1), good.id, Ok(StepKind::Activate));
    let bad = ready_build("b");
    node.releases.ready.insert(&bad);
    node.activate(number(1, 2), bad.id);
    node.told();
    node.answers();
    node.report(number(1, 2), bad.id, Err(fault(Stage::WarmUp, "a trap")));
    assert_eq!(node.told(), ["activate"]);
    let nack = Answer::Nack(number(1, 2), Stage::WarmUp, "a trap".into());
    assert_eq!(node.answers(), [nack]);
    assert_eq!(node.releases.active(), Some(good.id));
}

#[tokio::test]
async fn a_disk_that_refuses_is_no_ack() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, build) = Node::with_ready(dir.path());
    // A folder is in the place of the file that would be written.
    std::fs::create_dir(dir.path().join("state.json")).unwrap();
    node.prepare(number(1, 1), &build);
    node.activate(number(1, 1), build.id);
    node.report(number(1, 1), build.id, Ok(StepKind::Activate));
    let refused = node.answers();
    let is_limit = |answer: &Answer| matches!(answer, Answer::Nack(_, Stage::Limit, _));
    assert!(
        refused.len() == 2 && refused.iter().all(is_limit),
        "{refused:?}"
    );
    assert_eq!(node.releases.active(), None);
}
