//! Tests of the directory: where keys are placed, who is told, and how a node leaves.

use super::*;
use crate::core::placement::place;
use protoplex_wire::{
    directory::{Directory, Member, SLOTS, Slots},
    link::LEAVE_MS_MAX,
    manifest::Role,
    status::Addresses,
};

fn live(children: u32, capacity: u32) -> Member {
    Member {
        role: Role::Live,
        region: String::new(),
        addresses: Addresses::default(),
        child_addresses: (0..children)
            .map(|child| format!("http://c{child}"))
            .collect(),
        capacity,
        cordoned: false,
    }
}

/// A slot table and its nodes; every change is one version.
#[derive(Default)]
struct PlacementTable {
    slots: Slots,
    members: BTreeMap<String, Member>,
}

impl PlacementTable {
    fn of(names: &[&str]) -> Self {
        let mut table = Self::default();
        let all = names.iter().map(|name| ((*name).to_owned(), live(2, 2)));
        table.change(|members| members.extend(all));
        table
    }

    /// Changes the nodes. Returns the slots that moved, with the node that had each.
    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<String, Member>)) -> Vec<(u16, String)> {
        let (before, old) = (self.members.clone(), self.slots.clone());
        change(&mut self.members);
        place(&mut self.slots, &before, &self.members);
        let moved = |(slot, place): (u16, &protoplex_wire::directory::ChildId)| {
            let stays = self.slots.place(slot) == Some(place);
            (!stays).then(|| (slot, place.node.to_string()))
        };
        old.placed().filter_map(moved).collect()
    }

    fn count(&self, name: &str) -> usize {
        self.slots
            .placed()
            .filter(|(_, p)| &*p.node == name)
            .count()
    }
}

#[test]
fn a_new_node_takes_at_most_its_share_and_no_other_slot_moves() {
    let mut table = PlacementTable::of(&["a"]);
    for (number, name) in (2..20).zip(["b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]) {
        let moved = table.change(|members| drop(members.insert(name.into(), live(2, 2))));
        let share = usize::from(SLOTS).div_ceil(number);
        assert!(
            moved.len() <= share,
            "{} moved, {share} is the share",
            moved.len()
        );
        assert!(moved.len() * 10 > share * 8, "{} of {share}", moved.len());
        assert_eq!(table.count(name), moved.len(), "they all moved to it");
    }
}

#[test]
fn when_a_node_goes_only_its_slots_move_and_they_spread() {
    let mut table = PlacementTable::of(&["a", "b", "c", "d", "e"]);
    let had = table.count("c");
    let moved = table.change(|members| drop(members.remove("c")));
    assert_eq!(moved.len(), had);
    assert!(moved.iter().all(|(_, node)| node == "c"));
    for name in ["a", "b", "d", "e"] {
        let share = usize::from(SLOTS) / 4;
        assert!(
            table.count(name).abs_diff(share) < share / 5,
            "{}",
            table.count(name)
        );
    }
    // The node comes back, and has what it had, as far as that is no more than its share.
    table.change(|members| drop(members.insert("c".into(), live(2, 2))));
    assert_eq!(table.count("c"), had.min(usize::from(SLOTS).div_ceil(5)));
}

#[test]
fn slots_stay_while_their_owners_are_healthy() {
    let mut table = PlacementTable::of(&["a", "b"]);
    let app = Member {
        role: Role::App,
        ..live(0, 9)
    };
    assert_eq!(
        table.change(|members| drop(members.insert("app".into(), app))),
        []
    );
    // Another capacity counts for those who come from now on.
    assert_eq!(
        table.change(|members| members.get_mut("a").unwrap().capacity = 90),
        []
    );
    let addresses = vec!["http://x".to_owned(), "http://y".to_owned()];
    assert_eq!(
        table.change(|members| members.get_mut("a").unwrap().child_addresses = addresses),
        []
    );
}

#[test]
fn capacity_is_a_share_and_children_share_their_nodes_slots() {
    let mut table = PlacementTable::default();
    table.change(|members| {
        members.insert("large".into(), live(6, 6));
        members.insert("small".into(), live(2, 2));
    });
    let large = table.count("large");
    assert!(large.abs_diff(usize::from(SLOTS) * 3 / 4) < 120, "{large}");
    let mut children = [0_usize; 6];
    for (_, place) in table.slots.placed().filter(|(_, p)| &*p.node == "large") {
        children[usize::from(place.child)] += 1;
    }
    assert!(
        children.iter().all(|count| count.abs_diff(large / 6) < 120),
        "{children:?}"
    );
    // A child more takes from its siblings, and no node notices.
    let moved = table.change(|members| drop(members.insert("large".into(), live(7, 6))));
    assert!(moved.iter().all(|(slot, node)| {
        node == "large"
            && table
                .slots
                .place(*slot)
                .is_some_and(|place| place.child == 6)
    }));
    assert_eq!(table.count("large"), large);
}

#[test]
fn a_cordoned_node_loses_its_slots_unless_it_is_the_last() {
    let mut table = PlacementTable::of(&["a", "b"]);
    table.change(|members| members.get_mut("a").unwrap().cordoned = true);
    assert_eq!(table.count("b"), usize::from(SLOTS));
    let moved = table.change(|members| members.get_mut("b").unwrap().cordoned = true);
    assert_eq!((moved.len(), table.count("b")), (0, usize::from(SLOTS)));
    table.change(|members| members.retain(|_, member| !member.cordoned));
    assert_eq!(table.slots, Slots::default());
}

impl SimFleet {
    fn current(&self) -> Directory {
        self.core.directory_now().clone()
    }

    fn all_know_the_directory(&mut self) {
        self.settle();
        let current = self.current();
        for (name, node) in self.nodes.iter().filter(|(_, node)| node.link.is_some()) {
            assert_eq!(node.directory, current, "{name}");
        }
    }
}

#[test]
fn changes_lead_where_a_snapshot_would_whatever_comes_and_goes() {
    let names = ["live-a", "live-b", "live-c", "live-d", "app", "other"];
    for number in 0..60 {
        let mut random = super::random::TestRandom(number);
        let mut fleet = SimFleet::running(&names, "one");
        for _ in 0..60 {
            let name = random.of(&names);
            match random.below(8) {
                0 | 1 => fleet.leave(name),
                2 | 3 => fleet.join(name),
                4 => fleet.say(name, FromNode::Leaving),
                5 => drop(fleet.nodes.get_mut(name).unwrap().inbox.pop_front()),
                6 => drop(fleet.deliver(name)),
                _ => fleet.all_know_what_came(),
            }
        }
        // What was lost is noticed with the next change at the latest.
        fleet.join("live-a");
        fleet.leave("live-b");
        fleet.join("live-b");
        fleet.all_know_the_directory();
    }
}

impl SimFleet {
    fn all_know_what_came(&mut self) {
        self.settle();
        for node in self.nodes.values().filter(|node| node.link.is_some()) {
            assert!(node.directory.version <= self.current().version);
        }
    }
}

#[test]
fn a_node_that_missed_a_version_asks_for_the_whole() {
    let mut fleet = SimFleet::running(&["live-a", "live-b", "proxy"], "one");
    fleet.settle();
    fleet.leave("live-a");
    fleet.nodes.get_mut("proxy").unwrap().inbox.clear();
    fleet.join("live-a");
    fleet.all_know_the_directory();
}

#[test]
fn a_seed_that_starts_again_leaves_every_key_where_it_is() {
    let mut fleet = SimFleet::running(&["live-a", "live-b"], "one");
    // Not the table that rendezvous alone would make.
    fleet.leave("live-a");
    fleet.join("live-a");
    fleet.settle();
    let before = fleet.current();
    fleet.restart();
    fleet.settle();
    assert_eq!(fleet.current().slots, before.slots);
    assert!(fleet.current().version > before.version);
}

#[test]
fn a_leaving_node_is_let_go_when_all_others_have_acknowledged() {
    let mut fleet = SimFleet::running(&["live-a", "live-b", "proxy-1", "proxy-2"], "one");
    fleet.settle();
    fleet.say("live-a", FromNode::Leaving);
    let cordoned = fleet.current();
    assert!(cordoned.members["live-a"].cordoned);
    assert!(
        cordoned
            .slots
            .placed()
            .all(|(_, place)| &*place.node == "live-b")
    );
    for name in ["live-b", "proxy-1"] {
        while fleet.deliver(name) {}
    }
    assert!(
        !fleet.orders("live-a").contains(&"left".to_owned()),
        "proxy-2 has not read it"
    );
    while fleet.deliver("proxy-2") {}
    assert!(fleet.orders("live-a").ends_with(&["left".to_owned()]));
}

#[test]
fn a_leaving_node_waits_for_no_gone_node_and_for_none_too_long() {
    let mut fleet = SimFleet::running(&["live-a", "proxy-1", "proxy-2"], "one");
    fleet.settle();
    fleet.nodes.get_mut("proxy-1").unwrap().silent = true;
    fleet.say("live-a", FromNode::Leaving);
    fleet.leave("proxy-2");
    fleet.pass(LEAVE_MS_MAX - 200);
    assert!(!fleet.orders("live-a").contains(&"left".to_owned()));
    fleet.pass(400);
    assert!(fleet.orders("live-a").ends_with(&["left".to_owned()]));
}

#[test]
fn a_node_that_comes_back_has_left_nothing() {
    let mut fleet = SimFleet::running(&["live-a", "live-b"], "one");
    fleet.say("live-a", FromNode::Leaving);
    fleet.settle();
    fleet.leave("live-a");
    fleet.join("live-a");
    fleet.settle();
    assert!(!fleet.current().members["live-a"].cordoned);
    assert!(!fleet.core.nodes(fleet.now_ms)[0].leaving);
}

#[test]
fn a_directory_of_thousands_of_nodes_fits_the_frame_limit() {
    let names: Vec<String> = (0..2_000)
        .map(|n| format!("live-{n}-{}", "x".repeat(200)))
        .collect();
    let known = Directory {
        version: 1,
        members: names
            .iter()
            .map(|name| (name.clone(), live(2, 2)))
            .collect(),
        slots: Slots::default(),
    };
    let mut fleet = SimFleet::new(&[]);
    fleet.know(known.clone());
    fleet.join("proxy");
    fleet.all_know_the_directory();
    assert_eq!(fleet.nodes["proxy"].directory.members, known.members);
}

#[test]
fn a_child_count_of_another_world_is_not_let_in() {
    let mut fleet = SimFleet::new(&[]);
    for hello in [
        Hello {
            child_addresses: vec![String::new(); CHILDREN_MAX + 1],
            ..fleet::hello("x")
        },
        Hello {
            child_addresses: vec!["x".repeat(TEXT_BYTES_MAX + 1)],
            ..fleet::hello("x")
        },
        Hello {
            region: "EU west".to_owned(),
            ..fleet::hello("x")
        },
    ] {
        let effects = fleet.core.step(CoreEvent::NodeHello { link: 9, hello }, 1);
        assert!(matches!(effects[..], [CoreEffect::Close { .. }]));
    }
}
