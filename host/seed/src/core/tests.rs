//! The promises of the control plane, checked without I/O on a fleet of simulated nodes.

use super::*;
use protoplex_wire::{
    Digest,
    link::{Heartbeat, SILENCE_MS_MAX},
    release::Stage,
    signature::Envelope,
    status::ReleaseOutcome,
};

mod directory;
mod fleet;
mod hold;
mod random;

use fleet::{Behaviour, SimFleet, build};

#[test]
fn a_release_is_prepared_everywhere_before_anything_switches() {
    let mut fleet = SimFleet::new(&["a", "b"]);
    fleet.order("one", None);
    assert_eq!(fleet.orders("a"), ["prepare 1.1"]);
    fleet.deliver("a");
    assert_eq!(fleet.orders("a"), ["prepare 1.1"], "b has not prepared yet");
    fleet.settle();
    assert_eq!(fleet.orders("a"), ["prepare 1.1", "activate 1.1"]);
    assert_eq!(fleet.last_outcome(), ReleaseOutcome::Promoted);
    assert_eq!(fleet.core.status().active, Some(build("one").id));
}

#[test]
fn a_nack_while_preparing_abandons_and_leaves_the_build_before() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    fleet.behave("b", Behaviour::NackPrepare);
    fleet.order("two", None);
    fleet.settle();
    let record = fleet.last_record();
    assert_eq!(record.outcome, ReleaseOutcome::Reverted);
    let reason = record.reason.expect("a reason");
    assert!(
        reason.contains("node b") && reason.contains("compile"),
        "{reason}"
    );
    assert!(
        fleet
            .orders("a")
            .ends_with(&["prepare 1.2".into(), "abandon 1.2".into()])
    );
    fleet.all_run("one");
}

#[test]
fn a_nack_while_activating_reverts_under_a_higher_number() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    fleet.behave("b", Behaviour::NackActivate);
    fleet.order("two", None);
    fleet.settle();
    assert_eq!(fleet.last_record().outcome, ReleaseOutcome::Reverted);
    assert!(fleet.orders("a").ends_with(&[
        "activate 1.2".into(),
        "prepare 1.3".into(),
        "activate 1.3".into()
    ]));
    fleet.all_run("one");
    assert!(
        fleet.core.rollback_target().is_none(),
        "a reverted build is no target"
    );
}

#[test]
fn a_silent_node_ends_the_release_at_the_deadline() {
    for behaviour in [Behaviour::MutePrepare, Behaviour::MuteActivate] {
        let mut fleet = SimFleet::running(&["a", "b"], "one");
        fleet.behave("b", behaviour);
        fleet.order("two", None);
        fleet.settle();
        assert!(fleet.core.status().running.is_some());
        fleet.pass(2_000);
        let record = fleet.last_record();
        assert_eq!(record.outcome, ReleaseOutcome::Reverted, "{behaviour:?}");
        let reason = record.reason.expect("a reason");
        assert!(
            reason.contains("no answer") && reason.contains('b'),
            "{reason}"
        );
        fleet.behave("b", Behaviour::Well);
        fleet.pass(30_000);
        fleet.all_run("one");
    }
}

#[test]
fn a_node_that_leaves_while_preparing_ends_the_release() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    fleet.order("two", None);
    fleet.leave("b");
    fleet.settle();
    assert_eq!(fleet.last_record().outcome, ReleaseOutcome::Reverted);
    fleet.join("b");
    fleet.settle();
    fleet.all_run("one");
}

#[test]
fn a_node_that_comes_back_while_the_others_switch_is_led_along() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    fleet.behave("b", Behaviour::MuteActivate);
    fleet.order("two", None);
    fleet.settle();
    fleet.leave("b");
    fleet.behave("b", Behaviour::Well);
    fleet.join("b");
    fleet.settle();
    assert_eq!(fleet.last_record().outcome, ReleaseOutcome::Promoted);
    fleet.all_run("two");
}

#[test]
fn a_node_that_drains_keeps_no_release_waiting() {
    // Before it has prepared, and before it has switched.
    for behaviour in [Behaviour::MutePrepare, Behaviour::MuteActivate] {
        let mut fleet = SimFleet::running(&["a", "b"], "one");
        fleet.behave("b", behaviour);
        fleet.order("two", None);
        fleet.settle();
        assert!(fleet.core.status().running.is_some());
        fleet.say("b", FromNode::Leaving);
        fleet.settle();
        assert_eq!(fleet.last_record().outcome, ReleaseOutcome::Promoted);
        // Nor one that begins while it is still here.
        fleet.order("three", None);
        fleet.settle();
        assert_eq!(fleet.last_record().outcome, ReleaseOutcome::Promoted);
        fleet.leave("b");
        fleet.behave("b", Behaviour::Well);
        fleet.join("b");
        fleet.settle();
        fleet.all_run("three");
    }
}

#[test]
fn a_node_without_the_others_build_is_sent_nothing_until_then() {
    let usable = |fleet: &SimFleet| {
        let directory = fleet.core.directory_now();
        directory.members.keys().cloned().collect::<Vec<_>>()
    };
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    fleet.leave("b");
    fleet.order("two", None);
    // Node b comes while node a prepares, too late for that.
    fleet.join("b");
    assert_eq!(usable(&fleet), ["a", "b"]);
    while fleet.deliver("a") {}
    assert_eq!(usable(&fleet), ["a"], "a has switched, b has not");
    fleet.settle();
    fleet.all_run("two");
    assert_eq!(usable(&fleet), ["a", "b"]);
    // One that leaves waits for it, where there is nobody else.
    fleet.leave("b");
    fleet.order("three", None);
    fleet.settle();
    fleet.join("b");
    fleet.say("a", FromNode::Leaving);
    while fleet.deliver("a") {}
    assert_eq!(usable(&fleet), ["a"]);
    assert!(!fleet.orders("a").contains(&"left".to_owned()));
    fleet.settle();
    assert_eq!(usable(&fleet), ["a", "b"]);
    assert!(fleet.orders("a").contains(&"left".to_owned()));
    fleet.leave("a");
    fleet.join("a");
    fleet.settle();
    // With nobody else it is better than nothing.
    fleet.leave("b");
    fleet.order("four", None);
    fleet.settle();
    fleet.leave("a");
    fleet.join("b");
    assert_eq!(usable(&fleet), ["b"]);
}

#[test]
fn a_release_that_overtakes_a_catch_up_takes_nobody_out() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    fleet.leave("b");
    fleet.order("two", None);
    fleet.settle();
    fleet.join("b");
    while !fleet.orders("b").contains(&"activate 1.2".to_owned()) {
        assert!(fleet.deliver("b"));
    }
    fleet.order("three", None);
    while fleet.deliver("b") {}
    fleet.deliver("a");
    let directory = fleet.core.directory_now();
    assert!(directory.members.contains_key("b"), "it has one to three");
    fleet.settle();
    fleet.all_run("three");
}

#[test]
fn silence_is_leaving() {
    let mut fleet = SimFleet::running(&["a"], "one");
    fleet.behave("a", Behaviour::Dead);
    fleet.pass(SILENCE_MS_MAX + 500);
    assert_eq!(fleet.core.status().nodes_connected, 0);
    assert!(!fleet.core.nodes(fleet.now_ms)[0].connected);
}

#[test]
fn a_seed_that_stood_still_blames_nobody_for_silence() {
    let mut fleet = SimFleet::running(&["a"], "one");
    fleet.now_ms += 60_000;
    fleet.event(CoreEvent::Tick);
    assert_eq!(fleet.core.status().nodes_connected, 1);
}

#[test]
fn an_order_without_nodes_stands_for_those_who_come() {
    let mut fleet = SimFleet::new(&[]);
    fleet.order("one", Some(None));
    assert_eq!(fleet.last_outcome(), ReleaseOutcome::Promoted);
    fleet.join("a");
    fleet.settle();
    fleet.all_run("one");
    assert_eq!(fleet.orders("a"), ["prepare 1.1", "activate 1.1"]);
}

#[test]
fn orders_are_refused_while_one_runs_or_against_another_build() {
    let mut fleet = SimFleet::running(&["a"], "one");
    fleet.order("two", Some(None));
    let refusal = fleet.refusals.pop().expect("refused");
    assert!(matches!(refusal, OrderRefusal::Conflict { .. }));
    assert!(refusal.to_string().contains(&build("one").id.to_string()));
    fleet.order("two", Some(Some(build("one").id)));
    fleet.order("three", None);
    assert!(matches!(
        fleet.refusals.pop(),
        Some(OrderRefusal::Busy { .. })
    ));
    fleet.settle();
    fleet.all_run("two");
}

#[test]
fn a_release_of_the_active_build_is_a_release() {
    let mut fleet = SimFleet::running(&["a"], "one");
    fleet.order("one", None);
    fleet.settle();
    assert_eq!(fleet.last_record().release.sequence, 2);
    assert_eq!(fleet.last_outcome(), ReleaseOutcome::Promoted);
}

#[test]
fn a_rollback_goes_to_the_last_promoted_inactive_build() {
    let mut fleet = SimFleet::running(&["a"], "one");
    fleet.order("two", None);
    fleet.settle();
    assert_eq!(fleet.core.rollback_target(), Some(build("one").id));
    fleet.order("one", None);
    fleet.settle();
    assert_eq!(fleet.core.rollback_target(), Some(build("two").id));
}

#[test]
fn a_seed_that_lost_its_data_goes_above_what_nodes_hold() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    fleet.lose_data();
    fleet.settle();
    fleet.all_hold("one");
    fleet.order("two", None);
    fleet.settle();
    assert_eq!(fleet.core.durable().epoch, 2);
    assert!(
        fleet.last_record().release
            > ReleaseId {
                epoch: 2,
                sequence: 0
            }
    );
    fleet.all_run("two");
}

#[test]
fn a_release_cut_by_a_restart_is_reverted() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    fleet.order("two", None);
    fleet.deliver("a");
    fleet.deliver("b");
    fleet.deliver("a"); // a has switched, b has not.
    fleet.restart();
    assert_eq!(fleet.last_record().outcome, ReleaseOutcome::Reverted);
    fleet.settle();
    fleet.all_run("one");
}

#[test]
fn waves_go_one_after_another_and_come_back_together() {
    let mut fleet = SimFleet::running(&["a", "b", "c"], "one");
    fleet.core.plan.wave_nodes_max = 1;
    fleet.behave("c", Behaviour::NackPrepare);
    fleet.order("two", None);
    fleet.settle();
    assert!(fleet.orders("a").contains(&"activate 1.2".to_owned()));
    assert!(!fleet.orders("c").contains(&"activate 1.2".to_owned()));
    assert_eq!(fleet.last_record().outcome, ReleaseOutcome::Reverted);
    fleet.all_run("one");
}

#[test]
fn the_directory_follows_the_fleet_and_outlives_a_seed_restart() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    assert_eq!(fleet.directory("a"), 2);
    fleet.leave("b");
    assert_eq!(fleet.directory("a"), 1);
    fleet.join("b");
    fleet.settle();
    fleet.restart_without_nodes();
    fleet.join("a");
    assert_eq!(fleet.directory("a"), 2, "b has not had time to come back");
    fleet.pass(SILENCE_MS_MAX + 500);
    assert_eq!(fleet.directory("a"), 1);
}

#[test]
fn an_order_after_a_restart_waits_for_the_nodes_of_before() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    fleet.restart_without_nodes();
    fleet.order("two", None);
    fleet.join("a");
    fleet.settle();
    assert_eq!(fleet.core.durable().active_build(), Some(build("one").id));
    fleet.join("b");
    fleet.settle();
    fleet.all_run("two");
    assert_eq!(fleet.last_record().answers.len(), 2);
}

#[test]
fn an_order_after_a_restart_does_not_wait_for_ever() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    fleet.restart_without_nodes();
    fleet.join("a");
    fleet.order("two", None);
    fleet.pass(SILENCE_MS_MAX + 500);
    fleet.settle();
    assert_eq!(fleet.core.durable().active_build(), Some(build("two").id));
}

#[test]
fn children_that_stop_serving_leave_the_directory() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    let beat = Heartbeat::default();
    fleet.say("b", FromNode::Heartbeat(beat));
    assert_eq!(fleet.directory("a"), 1);
}

#[test]
fn a_node_that_left_long_ago_is_forgotten() {
    let mut fleet = SimFleet::running(&["a", "b"], "one");
    fleet.leave("b");
    let days = |fleet: &mut SimFleet, ms| {
        fleet.now_ms += ms;
        fleet.event(CoreEvent::Tick);
        fleet.core.nodes(fleet.now_ms).len()
    };
    assert_eq!(days(&mut fleet, AWAY_MS_MAX / 2), 2);
    // The Seed's own sleep is nobody's absence, and a node that is here is never forgotten.
    fleet.pass(1_000);
    fleet.now_ms += 500;
    assert_eq!(days(&mut fleet, 500), 2);
    for _ in 0..2 * AWAY_MS_MAX / 1_000 {
        fleet.now_ms += 1_000;
        let beat = Heartbeat {
            children_ready: 2,
            ..Heartbeat::default()
        };
        fleet.say("a", FromNode::Heartbeat(beat));
        fleet.event(CoreEvent::Tick);
    }
    let nodes = fleet.core.nodes(fleet.now_ms);
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0].node, "a");
    fleet.join("b");
    fleet.settle();
    fleet.all_run("one");
}

#[test]
fn names_of_nodes_that_left_make_room_for_others() {
    let mut fleet = SimFleet::running(&["a"], "one");
    let come = |fleet: &mut SimFleet, number: usize, link| {
        let hello = fleet::hello(&format!("n{number}"));
        fleet
            .core
            .step(CoreEvent::NodeHello { link, hello }, fleet.now_ms)
    };
    for number in 0..NODES_MAX + 10 {
        fleet.now_ms += 1;
        let effects = come(&mut fleet, number, 1_000);
        let refused = effects
            .iter()
            .any(|e| matches!(e, CoreEffect::Close { .. }));
        assert!(!refused, "{number}");
        fleet.event(CoreEvent::NodeGone { link: 1_000 });
    }
    let nodes = fleet.core.nodes(fleet.now_ms);
    assert_eq!(nodes.len(), NODES_MAX);
    let known = |name: &str| nodes.iter().any(|node| node.node == name);
    assert!(
        known("a") && known("n100") && !known("n0"),
        "the longest gone went"
    );
}

/// Returns why a node that opens this link is refused; `None` when it is not.
fn refusal(fleet: &mut SimFleet, name: &str, link: LinkId) -> Option<String> {
    let hello = fleet::hello(name);
    let event = CoreEvent::NodeHello { link, hello };
    let effects = fleet.core.step(event, fleet.now_ms);
    effects.into_iter().find_map(|effect| match effect {
        CoreEffect::Close {
            link: closed,
            reason,
        } if closed == link => Some(reason),
        _ => None,
    })
}

#[test]
fn a_node_above_the_most_is_refused_until_another_leaves() {
    let mut fleet = SimFleet::running(&["a"], "one");
    let most = LinkId::try_from(NODES_MAX).expect("a small number");
    // They come on links of their own numbers; `a` is one of them.
    for number in 1..most {
        let refused = refusal(&mut fleet, &format!("n{number}"), 1_000 + number);
        assert_eq!(refused, None, "{number}");
    }
    let here = |fleet: &SimFleet| fleet.core.status().nodes_connected as usize;
    assert_eq!(here(&fleet), NODES_MAX);
    for name in ["new", "newer"] {
        let refused = refusal(&mut fleet, name, 10_000).expect("there is no room");
        assert!(refused.contains(&NODES_MAX.to_string()), "{refused}");
    }
    assert_eq!(here(&fleet), NODES_MAX, "nobody was let go for it");
    let known = |fleet: &SimFleet, name: &str| {
        let nodes = fleet.core.nodes(fleet.now_ms);
        nodes.iter().any(|node| node.node == name)
    };
    assert!(!known(&fleet, "new"), "a name that was refused is not kept");
    // One that is here may come by another link, and is not one more.
    assert_eq!(refusal(&mut fleet, "n7", 10_001), None);
    assert_eq!(here(&fleet), NODES_MAX);
    fleet.event(CoreEvent::NodeGone { link: 1_008 });
    assert_eq!(refusal(&mut fleet, "new", 10_002), None);
    assert_eq!(here(&fleet), NODES_MAX);
    assert!(known(&fleet, "new") && !known(&fleet, "n8"));
}

#[test]
fn a_node_of_another_world_is_not_let_in() {
    let mut fleet = SimFleet::new(&[]);
    let mut hello = fleet::hello("x");
    hello.release.epoch = u64::MAX;
    let effects = fleet.core.step(CoreEvent::NodeHello { link: 9, hello }, 1);
    assert!(matches!(effects[..], [CoreEffect::Close { .. }]));
}
