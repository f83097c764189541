use super::*;
use crate::testing::ready_build;

fn release(sequence: u64) -> ReleaseId {
    ReleaseId { epoch: 1, sequence }
}

fn preparing(children: &[usize]) -> (RolloutStep, BuildId) {
    let build = ready_build("a");
    let id = build.id;
    let step = RolloutStep::fetching(release(1), Instant::now());
    (step.preparing(build, children), id)
}

#[test]
fn a_step_is_done_when_nobody_is_waited_for_and_one_has_done_it() {
    let (mut step, build) = preparing(&[0, 1]);
    assert!(step.child_did(0, StepKind::Prepare, release(1), build));
    assert!(step.is_confirmed() && !step.is_done());
    assert!(step.child_did(1, StepKind::Prepare, release(1), build));
    assert!(step.is_done());
    let done = step.done().unwrap();
    assert_eq!((done.release, done.kind), (release(1), StepKind::Prepare));
    assert_eq!(done.build.id, build);
}

#[test]
fn a_step_without_children_is_not_done_until_one_joins() {
    let (mut step, build) = preparing(&[]);
    assert!(!step.is_done());
    assert_eq!(step.child_joined(1).map(|ready| ready.id), Some(build));
    step.child_gone(1);
    assert!(!step.is_done(), "nothing is known of the build");
    step.child_joined(1);
    step.child_did(1, StepKind::Prepare, release(1), build);
    assert!(step.is_done());
}

#[test]
fn a_child_that_is_gone_is_not_waited_for() {
    let (mut step, build) = preparing(&[0, 1]);
    step.child_did(0, StepKind::Prepare, release(1), build);
    step.child_gone(1);
    assert!(step.is_done());
}

#[test]
fn words_that_are_not_about_the_step_change_nothing() {
    let (mut step, build) = preparing(&[0]);
    let other = ready_build("b").id;
    assert!(!step.child_did(0, StepKind::Activate, release(1), build));
    assert!(!step.child_did(0, StepKind::Prepare, release(2), build));
    assert!(!step.child_did(0, StepKind::Prepare, release(1), other));
    assert!(!step.is_confirmed());
    assert!(step.is_about(release(1), build) && !step.is_about(release(1), other));
}

#[test]
fn a_step_waits_for_the_files_of_its_own_release_alone() {
    let mut step = RolloutStep::fetching(release(2), Instant::now());
    assert!(step.is_fetching(release(2)) && !step.is_fetching(release(1)));
    assert!(step.child_joined(0).is_none(), "there is nothing to give");
    let build = ready_build("a");
    let id = build.id;
    let step = step.preparing(build, &[0]);
    assert!(!step.is_fetching(release(2)));
    assert!(step.is_about(release(2), id));
}

#[test]
fn an_activation_waits_for_activations() {
    let build = ready_build("a");
    let id = build.id;
    let mut step = RolloutStep::activating(release(1), build, &[0], Instant::now());
    assert!(!step.child_did(0, StepKind::Prepare, release(1), id));
    assert!(step.child_did(0, StepKind::Activate, release(1), id));
    assert!(step.is_done());
    assert_eq!(step.kind(), StepKind::Activate);
}
