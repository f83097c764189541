//! Random interleavings of orders, answers, failures, departures, restarts and time.
//!
//! [`SimFleet`] asserts at every step: the disk is written first, the fence never falls, `activate` only reaches a
//! node that prepared that release. Here: `activate` of a release only after every PREPARED, ids only rise,
//! every rollout ends, and in the end every node runs what the Seed says.

use super::*;

/// A small generator of our own, so that a failure is repeated by its number.
pub struct TestRandom(pub u64);

impl TestRandom {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const BUILDS: [&str; 3] = ["one", "two", "three"];
const BEHAVIOURS: [Behaviour; 8] = [
    Behaviour::Well,
    Behaviour::Well,
    Behaviour::Well,
    Behaviour::NackPrepare,
    Behaviour::NackActivate,
    Behaviour::MutePrepare,
    Behaviour::MuteActivate,
    Behaviour::Dead,
];

/// Deliveries after which a rollout that has not ended never will: four nodes get a handful of messages each.
const DELIVERIES_MAX: usize = 10_000;

/// Delivers, in random order, until the rollout has ended.
fn deliver_to_the_end(
    fleet: &mut SimFleet,
    random: &mut TestRandom,
    mut after_each: impl FnMut(&SimFleet),
) {
    for _ in 0..DELIVERIES_MAX {
        if fleet.core.status().running.is_none() {
            return;
        }
        fleet.deliver(random.of(&NAMES));
        after_each(fleet);
    }
    panic!("the rollout does not end");
}

fn random_run(number: u64) {
    let mut random = TestRandom(number);
    let mut fleet = SimFleet::new(&NAMES);
    fleet.core.plan.wave_nodes_max = [1, 2, usize::MAX][random.below(3) as usize];
    let mut copy = fleet.copy();
    for _ in 0..300 {
        let name = random.of(&NAMES);
        match random.below(16) {
            0 => fleet.order(random.of(&BUILDS), None),
            1 => fleet.leave(name),
            2 => fleet.join(name),
            3 => fleet.behave(name, random.of(&BEHAVIOURS)),
            4 => fleet.pass(100 + random.below(1_500)),
            5 if random.below(8) == 0 => fleet.restart(),
            5 if random.below(12) == 0 => fleet.lose_data(),
            5 if random.below(8) == 0 => copy = fleet.copy(),
            5 if random.below(12) == 0 => fleet.restore(&copy),
            6 if fleet.core.status().hold.is_some() => fleet.adopt(random.of(&BUILDS)),
            _ => {
                fleet.deliver(name);
            }
        }
        check_events(&fleet);
    }
    // Everyone is well again: whatever goes on must end, and the fleet must agree.
    for name in NAMES {
        fleet.behave(name, Behaviour::Well);
        fleet.join(name);
    }
    fleet.pass(40_000);
    if fleet.core.status().hold.is_some() {
        fleet.order("one", None);
        fleet.pass(40_000);
    }
    let status = fleet.core.status();
    assert_eq!(status.hold, None, "an order has ended it");
    assert_eq!(status.running, None, "a rollout did not end");
    let ended = |r: &protoplex_wire::status::ReleaseRecord| r.outcome != ReleaseOutcome::Running;
    assert!(fleet.core.durable().history.iter().all(ended));
    for (name, node) in &fleet.nodes {
        assert!(
            status.active.is_none() || node.active == status.active,
            "{name} runs {:?}, the Seed says {:?}: {:?}",
            node.active,
            status.active,
            node.seen,
        );
    }
}

/// Checks the order in which followers were told: every wave's PREPAREDs, then `activating`; ids rise.
fn check_events(fleet: &SimFleet) {
    let history = &fleet.core.durable().history;
    assert!(
        history
            .windows(2)
            .all(|pair| pair[0].release < pair[1].release),
        "ids rise"
    );
    let mut prepared = BTreeMap::<&str, u32>::new();
    let mut failed = false;
    for event in &fleet.events {
        match event {
            ReleaseEvent::Started { .. } => {
                prepared.clear();
                failed = false;
            }
            ReleaseEvent::Node(answer) => match answer.answer {
                protoplex_wire::status::AnswerKind::Prepared => {
                    *prepared.entry(&answer.node).or_default() += 1
                }
                protoplex_wire::status::AnswerKind::Ack => {}
                _ => failed = true,
            },
            ReleaseEvent::Activating { .. } => {
                assert!(!failed, "activated after a failure");
                assert!(!prepared.is_empty() && prepared.values().all(|n| *n == 1));
            }
            ReleaseEvent::Finished(record) => {
                assert!(
                    !failed || record.outcome != ReleaseOutcome::Promoted,
                    "promoted after a failure"
                );
            }
        }
    }
}

#[test]
fn whatever_happens_every_rollout_ends_and_the_fleet_agrees() {
    for number in 0..600 {
        let run = std::panic::catch_unwind(|| random_run(number));
        assert!(run.is_ok(), "random run {number}");
    }
}

#[test]
fn after_a_nack_every_node_is_ordered_to_run_the_build_before() {
    for number in 0..500 {
        let mut random = TestRandom(number);
        let mut fleet = SimFleet::running(&NAMES, "one");
        let behaviour = random.of(&[Behaviour::NackPrepare, Behaviour::NackActivate]);
        fleet.behave(random.of(&NAMES), behaviour);
        fleet.order("two", None);
        deliver_to_the_end(&mut fleet, &mut random, |_| ());
        fleet.settle();
        assert_eq!(fleet.last_outcome(), ReleaseOutcome::Reverted);
        fleet.all_run("one");
    }
}

#[test]
fn no_node_switches_before_all_have_prepared() {
    for number in 0..500 {
        let mut random = TestRandom(number);
        let mut fleet = SimFleet::new(&NAMES);
        fleet.order("one", None);
        deliver_to_the_end(&mut fleet, &mut random, |fleet| {
            let is =
                |name: &str, what: &str| fleet.orders(name).iter().any(|o| o.starts_with(what));
            let activated = NAMES.iter().any(|name| is(name, "activate"));
            let unread = |name: &str| {
                fleet.nodes[name]
                    .inbox
                    .iter()
                    .any(|m| matches!(m, FromSeed::Prepare { .. }))
            };
            assert!(!activated || !NAMES.iter().any(|name| unread(name)));
        });
    }
}
