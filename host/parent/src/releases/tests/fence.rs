//! Which orders are refused for ever (guarantee 10), whatever Seed sends them.

use super::*;
use crate::{
    directory_keeper::DirectoryKeeper,
    node_status::NodeView,
    testing::{leaving, newcomers, profile},
};

#[tokio::test]
async fn an_order_below_one_that_was_taken_is_refused_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, build) = Node::with_ready(dir.path());
    node.releases.store.take(number(2, 5), build.id).unwrap();
    drop(node);
    // Over a restart, too.
    let (mut node, build) = Node::with_ready(dir.path());
    for older in [number(2, 4), number(1, 9)] {
        node.prepare(older, &build);
        node.activate(older, build.id);
        assert!(node.releases.step.is_none(), "{older}");
        assert_eq!(node.releases.state().release, number(2, 5), "{older}");
        let reason = format!("release {older} is older than 2.5, which this node has taken");
        let nack = || Answer::Nack(older, Stage::Protocol, reason.clone());
        assert_eq!(node.answers(), [nack(), nack()]);
        assert!(node.told().is_empty());
    }
    for newer in [number(2, 5), number(2, 6), number(3, 1)] {
        node.prepare(newer, &build);
        assert_eq!(node.releases.state().release, newer);
        node.activate(newer, build.id);
        let step = node.releases.step.as_ref().unwrap();
        assert_eq!(step.kind(), StepKind::Activate, "{newer}");
        assert_eq!(step.release(), newer);
    }
    assert_eq!(node.answers(), [], "the child has not done it");
}

/// A Seed that was started from an older copy of its disk hands out numbers a second time.
#[tokio::test]
async fn another_build_under_a_number_that_was_taken_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, build) = Node::with_ready(dir.path());
    let (release, other) = (number(1, 7), BuildId::of(b"another"));
    node.releases.store.take(release, other).unwrap();
    node.prepare(release, &build);
    node.activate(release, build.id);
    assert!(node.releases.step.is_none());
    let answers = node.answers();
    let is_refused = |answer: &Answer| matches!(answer, Answer::Nack(_, Stage::Protocol, reason) if reason.contains(&other.short()));
    assert!(
        answers.len() == 2 && answers.iter().all(is_refused),
        "{answers:?}"
    );
    let taken = node.releases.state().release_build;
    assert_eq!(taken, Some(other));
    assert_eq!(hello_release_build(&node), taken, "the Seed hears of it");
}

/// What the first line of a link says of the build under the release that was taken.
fn hello_release_build(node: &Node) -> Option<BuildId> {
    let nowhere = tempfile::tempdir().unwrap();
    let view = NodeView {
        profile: &profile(),
        supervisor: &node.supervisor,
        releases: &node.releases,
        directory: &DirectoryKeeper::open(nowhere.path()).unwrap(),
        leaving: &leaving(),
        seed: &node.seed,
        newcomers: &newcomers(),
    };
    view.hello().release_build
}
