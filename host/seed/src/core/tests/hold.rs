//! Tests of a Seed that knows less than its nodes: what it does not do, and what ends that.

use super::*;

/// Makes a fleet whose Seed was copied when it ran `one`, and started from that copy when it ran `three`.
fn restored() -> SimFleet {
    let mut fleet = SimFleet::running(&["a", "b"], "zero");
    fleet.order("one", None);
    fleet.settle();
    let copy = fleet.copy();
    for name in ["two", "three"] {
        fleet.order(name, None);
        fleet.settle();
    }
    fleet.all_run("three");
    fleet.restore(&copy);
    fleet.settle();
    fleet
}

fn orders(fleet: &SimFleet) -> usize {
    fleet.orders("a").len() + fleet.orders("b").len()
}

#[test]
fn a_seed_from_an_older_copy_of_its_disk_orders_nothing() {
    let mut fleet = restored();
    let before = orders(&fleet);
    fleet.pass(60_000);
    fleet.restart();
    fleet.pass(60_000);
    assert_eq!(orders(&fleet), before);
    fleet.all_hold("three");
    let hold = fleet.core.status().hold.expect("it holds");
    assert_eq!(hold.build, Some(build("three").id));
    assert!(hold.release > hold.known, "{hold}");
    let text = hold.to_string();
    for command in ["adopt", "push", "rollback"] {
        assert!(text.contains(&format!("protoplex {command}")), "{text}");
    }
}

#[test]
fn a_node_that_is_behind_is_led_nowhere_while_the_seed_holds() {
    let mut fleet = restored();
    fleet.join("c");
    fleet.pass(60_000);
    assert_eq!(fleet.orders("c"), Vec::<String>::new());
    fleet.adopt("three");
    fleet.settle();
    fleet.all_run("three");
}

#[test]
fn a_catch_up_ends_when_the_seed_hears_that_it_is_behind() {
    let mut fleet = restored();
    let copy = {
        fleet.adopt("three");
        fleet.settle();
        fleet.copy()
    };
    fleet.leave("b");
    fleet.order("four", None);
    fleet.settle();
    fleet.order("five", None);
    fleet.settle();
    // b, which has three, would be given it under a new number.
    fleet.disk_is(&copy);
    fleet.join("c");
    assert!(
        fleet
            .orders("c")
            .last()
            .is_some_and(|o| o.starts_with("prepare"))
    );
    fleet.join("a");
    while fleet.deliver("c") {}
    assert!(
        fleet
            .orders("c")
            .last()
            .is_some_and(|o| o.starts_with("abandon"))
    );
}

#[test]
fn adopt_makes_what_the_nodes_run_the_seeds_own() {
    let mut fleet = restored();
    fleet.adopt("one");
    assert!(matches!(
        fleet.refusals.pop(),
        Some(OrderRefusal::NotRunning(_))
    ));
    fleet.adopt("three");
    fleet.settle();
    fleet.all_run("three");
    let status = fleet.core.status();
    assert_eq!(status.hold, None);
    assert_eq!(status.release.epoch, 2, "above what the nodes have taken");
    assert_eq!(fleet.last_outcome(), ReleaseOutcome::Promoted);
    assert_eq!(fleet.last_record().switched(), 2);
    assert_eq!(fleet.core.rollback_target(), Some(build("one").id));
    // Every node has its number.
    fleet.restart();
    fleet.pass(60_000);
    assert_eq!(fleet.core.status().hold, None);
    fleet.adopt("three");
    assert_eq!(fleet.refusals.pop(), Some(OrderRefusal::NotHeld));
}

#[test]
fn a_push_or_rollback_ends_the_hold_above_what_nodes_have_taken() {
    for name in ["four", "zero"] {
        let mut fleet = restored();
        fleet.order(name, Some(Some(build("one").id)));
        fleet.settle();
        fleet.all_run(name);
        assert_eq!(fleet.core.status().hold, None);
        assert_eq!(fleet.core.status().release.epoch, 2);
        fleet.join("c");
        fleet.settle();
        fleet.all_run(name);
    }
}

#[test]
fn a_failed_release_in_a_hold_leads_no_node_to_the_older_copy() {
    for behaviour in [Behaviour::NackPrepare, Behaviour::NackActivate] {
        let mut fleet = restored();
        fleet.behave("b", behaviour);
        fleet.order("four", None);
        fleet.settle();
        assert_eq!(fleet.last_outcome(), ReleaseOutcome::Reverted);
        fleet.pass(60_000);
        let older = Some(build("one").id);
        assert!(fleet.nodes.values().all(|node| node.active != older));
        assert!(fleet.core.status().hold.is_some());
        fleet.behave("b", Behaviour::Well);
        fleet.order("five", None);
        fleet.settle();
        fleet.all_run("five");
        assert_eq!(fleet.core.status().hold, None);
    }
}

#[test]
fn one_number_for_two_builds_is_a_hold() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    let copy = fleet.copy();
    fleet.leave("b");
    fleet.order("two", None);
    fleet.settle();
    fleet.leave("a");
    fleet.disk_is(&copy);
    fleet.join("b");
    fleet.pass(10_000);
    fleet.order("other", None);
    fleet.settle();
    assert_eq!(fleet.core.status().hold, None, "nobody says otherwise");
    let before = fleet.orders("a");
    fleet.join("a");
    fleet.pass(60_000);
    assert_eq!(fleet.orders("a"), before);
    assert!(fleet.core.status().hold.is_some());
    fleet.order("three", None);
    fleet.settle();
    fleet.all_run("three");
}

#[test]
fn a_release_from_before_the_hold_does_not_end_it() {
    let mut fleet = restored();
    fleet.adopt("three");
    fleet.settle();
    let copy = fleet.copy();
    for name in ["four", "five"] {
        fleet.order(name, None);
        fleet.settle();
    }
    fleet.leave("a");
    fleet.leave("b");
    fleet.disk_is(&copy);
    fleet.join("c");
    fleet.pass(10_000);
    fleet.order("other", None);
    fleet.join("a");
    fleet.settle();
    assert_eq!(fleet.last_outcome(), ReleaseOutcome::Promoted);
    fleet.pass(60_000);
    assert!(fleet.core.status().hold.is_some());
    assert_eq!(fleet.nodes["a"].active, Some(build("five").id));
}

/// Checks what one node's word does to the numbers that the Seed hands out.
#[test]
fn one_nodes_word_does_not_move_the_epoch() {
    let mut fleet = SimFleet::running(&["a"], "one");
    let number = |epoch, sequence| ReleaseId { epoch, sequence };
    let say = |fleet: &mut SimFleet, release| {
        let mut hello = fleet::hello("liar");
        hello.release = release;
        fleet
            .core
            .step(CoreEvent::NodeHello { link: 99, hello }, fleet.now_ms)
    };
    let most = 1 + EPOCH_AHEAD_MAX;
    for release in [
        number((1 << 53) - 1, 0),
        number(u64::MAX, 0),
        number(most + 1, 0),
        number(1, SEQUENCE_MAX + 1),
    ] {
        let effects = say(&mut fleet, release);
        assert!(
            matches!(effects[..], [CoreEffect::Close { .. }]),
            "{release}"
        );
        assert_eq!(fleet.core.status().hold, None, "{release}");
    }
    say(&mut fleet, number(most, SEQUENCE_MAX));
    assert!(fleet.core.status().hold.is_some());
    assert_eq!(fleet.core.status().release, number(1, 1));
    fleet.event(CoreEvent::NodeGone { link: 99 });
    fleet.order("two", None);
    fleet.settle();
    fleet.all_run("two");
    assert_eq!(fleet.core.status().release, number(most + 1, 2));
}

/// The state that an earlier version of the Seed made of one node's word.
#[test]
fn a_disk_poisoned_with_an_epoch_of_2_to_the_53_goes_on() {
    let poison = (1 << 53) - 1;
    for epoch in [poison, poison + 1] {
        let mut fleet = SimFleet::running(&["a", "b"], "one");
        let disk = Durable {
            epoch,
            ..fleet.copy()
        };
        fleet.restore(&disk);
        fleet.settle();
        fleet.order("two", None);
        fleet.settle();
        fleet.all_run("two");
        let copy = fleet.copy();
        // The nodes come back with that number on their disks, and the Seed rises above it when an operator ends a hold.
        fleet.restart();
        fleet.order("three", None);
        fleet.settle();
        fleet.all_run("three");
        fleet.restore(&copy);
        fleet.settle();
        assert!(fleet.core.status().hold.is_some(), "{epoch}");
        fleet.adopt("three");
        fleet.settle();
        fleet.all_run("three");
        assert_eq!(fleet.core.status().release.epoch, epoch + 1);
        assert_eq!(fleet.core.status().hold, None);
        // The older copy again: what it hands out is below what all have taken.
        fleet.restore(&copy);
        fleet.order("four", None);
        fleet.settle();
        fleet.all_run("four");
        assert_eq!(fleet.core.status().release.epoch, epoch + 2);
    }
}

/// The way out that the refusal names: the Seed's number is raised by hand, never a node's lowered.
#[test]
fn a_seed_far_behind_its_nodes_is_raised_by_hand_and_holds() {
    let mut fleet = SimFleet::running(&["a"], "one");
    let copy = fleet.copy();
    let ahead = Durable {
        epoch: 1 << 53,
        ..copy.clone()
    };
    fleet.restore(&ahead);
    fleet.order("two", None);
    fleet.settle();
    fleet.all_run("two");
    fleet.disk_is(&copy);
    let mut hello = fleet::hello("a");
    hello.release = ReleaseId {
        epoch: 1 << 53,
        sequence: 2,
    };
    let now_ms = fleet.now_ms;
    let effects = fleet
        .core
        .step(CoreEvent::NodeHello { link: 99, hello }, now_ms);
    let [CoreEffect::Close { reason, .. }] = &effects[..] else {
        panic!("{effects:?}");
    };
    for text in [
        "write 9007199254740992 for `epoch` in state.json",
        "protoplex adopt",
    ] {
        assert!(reason.contains(text), "{reason}");
    }
    let raised = Durable {
        epoch: 1 << 53,
        ..copy
    };
    fleet.restore(&raised);
    fleet.settle();
    assert!(fleet.core.status().hold.is_some());
    fleet.all_hold("two");
    fleet.adopt("two");
    fleet.settle();
    fleet.all_run("two");
    assert_eq!(fleet.core.status().release.epoch, (1 << 53) + 1);
}
