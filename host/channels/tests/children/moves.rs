//! Channels that get another owner.

use crate::fleet::{Fleet, RULES};
use protoplex_channels::{
    Child,
    limits::{HANDOVER_DEADLINE_MS, HELD_MS, OFFER_MS, REMEMBERED_MS, RETRY_MS},
};

#[test]
fn a_channel_moves_with_all_that_is_known_of_it() {
    let mut fleet = Fleet::new(3);
    let people = ["ann", "bob", "eve"];
    let ids = [0, 1, 2].map(|child| {
        let id = fleet.open(child);
        fleet.subscribe(child, id, None, Some(people[child as usize]));
        fleet.flow();
        id
    });
    for (child, id) in (0..).zip(ids) {
        fleet.read(child, id);
    }
    let first = fleet.publish(0, "one", Some("key"));
    let first = fleet.published(first).expect("published");
    fleet.place_all(2, 1);
    // The old owner's connections, the new owner's and those of a third go on, and keys are known.
    let again = fleet.publish(0, "two", Some("key"));
    let next = fleet.publish(2, "two", None);
    fleet.flow();
    let again = fleet.published(again).expect("published");
    assert_eq!((again.position, again.repeated), (first.position, true));
    let next = fleet.published(next).expect("published");
    assert_eq!(next.position.epoch, first.position.epoch);
    assert_eq!(next.position.offset, 2);
    for (child, id) in (0..).zip(ids) {
        assert_eq!(fleet.read(child, id), ["one", "two"], "at {child}");
    }
    assert_eq!(fleet.meshes[0].handing_over(), 0);
    let late = fleet.open(1);
    let ticket = fleet.subscribe(1, late, Some(first.position), None);
    let answer = fleet.subscribed(ticket).expect("subscribed");
    assert_eq!(answer.recovered, Some(true));
    assert_eq!((answer.missed.len(), answer.members.len()), (1, 3));
}

#[test]
fn a_mirror_that_missed_a_move_and_the_way_back_is_told_of_it() {
    let mut fleet = Fleet::new(3);
    let id = fleet.open(2);
    fleet.subscribe(2, id, None, None);
    fleet.flow();
    // What is repeated now and then would bring it to light as well, but later.
    fleet.tick(1);
    for (version, owner) in [(2, 1), (3, 0)] {
        fleet.place(0, version, owner);
        fleet.place(1, version, owner);
        fleet.flow();
    }
    fleet.place(2, 3, 0);
    fleet.pass(2 * RETRY_MS);
    fleet.publish(0, "one", None);
    fleet.flow();
    assert_eq!(fleet.read(2, id), ["one"]);
}

#[test]
fn who_has_gone_before_a_directory_comes_is_not_served_after_it() {
    let mut fleet = Fleet::new(3);
    fleet.place(2, 2, 1);
    let id = fleet.open(2);
    fleet.subscribe(2, id, None, None);
    fleet.flow();
    fleet.act(2, |mesh, now_ms| mesh.close(now_ms, id));
    fleet.flow();
    fleet.place(1, 2, 1);
    fleet.flow();
    fleet.publish(1, "one", None);
    assert!(fleet.under_way.is_empty());
}

#[test]
fn what_comes_while_a_channel_moves_waits_for_it() {
    let mut fleet = Fleet::new(3);
    let first = fleet.publish(0, "one", None);
    let first = fleet.published(first).expect("published");
    // The new owner knows it first, and the old one goes on until it is asked.
    fleet.place(1, 2, 1);
    let ahead = fleet.publish(1, "two", None);
    assert!(fleet.answer(ahead).is_none());
    let behind = fleet.publish(2, "three", None);
    fleet.flow();
    let ahead = fleet.published(ahead).expect("published");
    assert_eq!(ahead.position.epoch, first.position.epoch);
    // It went to the old owner, was sent away, and waits for the directory that says where to.
    assert!(fleet.answer(behind).is_none());
    assert_eq!(fleet.meshes[0].handing_over(), 0);
    let given = fleet.publish(0, "four", None);
    fleet.flow();
    assert!(fleet.published(given).is_ok());
    fleet.place(2, 2, 1);
    fleet.flow();
    let behind = fleet.published(behind).expect("published");
    assert_eq!(behind.position.epoch, first.position.epoch);
}

#[test]
fn moved_channels_are_offered_until_they_are_taken() {
    let mut fleet = Fleet::new(2);
    let first = fleet.publish(0, "one", None);
    let first = fleet.published(first).expect("published");
    fleet.unlink(0, 1);
    fleet.place(0, 2, 1);
    fleet.place(1, 2, 1);
    assert_eq!(fleet.meshes[0].handing_over(), 1);
    fleet.link(0, 1);
    fleet.unlink(0, 1);
    fleet.link(0, 1);
    assert_eq!(fleet.meshes[0].handing_over(), 1);
    fleet.flow();
    assert_eq!(fleet.meshes[0].handing_over(), 0);
    fleet.kill(0);
    let next = fleet.publish(1, "two", None);
    let next = fleet.published(next).expect("it is the owner");
    assert_eq!(next.position.epoch, first.position.epoch);
    assert_eq!(next.position.offset, 2);
}

#[test]
fn what_was_offered_before_does_not_come_back_after_it_went_on() {
    let mut fleet = Fleet::new(3);
    fleet.publish(0, "one", None);
    fleet.place(1, 2, 1);
    fleet.place(0, 2, 1);
    let (_, _, offer) = fleet.under_way.pop_front().expect("it is offered");
    fleet.act(1, |mesh, now_ms| mesh.received(now_ms, Child(0), offer));
    // It is taken, which 0 never hears, and goes on to 2.
    fleet.unlink(0, 1);
    assert_eq!(fleet.meshes[0].handing_over(), 1);
    fleet.place(1, 3, 2);
    fleet.place(2, 3, 2);
    fleet.flow();
    let two = fleet.publish(2, "two", None);
    let two = fleet.published(two).expect("published");
    assert_eq!(two.position.offset, 2);
    // 1 is to have it again, and hears from 0 first.
    fleet.unlink(1, 2);
    fleet.place(1, 4, 1);
    fleet.link(0, 1);
    fleet.flow();
    assert_eq!(fleet.meshes[0].handing_over(), 0);
    let three = fleet.publish(1, "three", None);
    assert!(fleet.answer(three).is_none());
    fleet.place(2, 4, 1);
    fleet.link(1, 2);
    fleet.flow();
    let three = fleet.published(three).expect("published");
    assert_eq!(three.position.epoch, two.position.epoch);
    assert_eq!(three.position.offset, 3);
}

#[test]
fn what_nobody_takes_is_not_offered_for_ever() {
    let mut fleet = Fleet::new(2);
    fleet.publish(0, "one", None);
    fleet.unlink(0, 1);
    fleet.place(0, 2, 1);
    fleet.tick(OFFER_MS - 1);
    assert_eq!(fleet.meshes[0].handing_over(), 1);
    fleet.tick(1);
    assert_eq!(fleet.meshes[0].handing_over(), 0);
}

#[test]
fn without_the_old_owner_a_new_epoch_begins_and_is_announced() {
    let mut fleet = Fleet::new(3);
    let id = fleet.open(2);
    fleet.subscribe(2, id, None, Some("ann"));
    fleet.flow();
    let first = fleet.publish(0, "one", None);
    fleet.flow();
    let first = fleet.published(first).expect("published");
    fleet.read(2, id);
    fleet.unlink(0, 1);
    fleet.unlink(0, 2);
    fleet.place(1, 2, 1);
    fleet.place(2, 2, 1);
    let ticket = fleet.publish(1, "two", None);
    fleet.flow();
    fleet.pass(HANDOVER_DEADLINE_MS - 1);
    assert!(fleet.answer(ticket).is_none());
    fleet.tick(1);
    let next = fleet.published(ticket).expect("published");
    assert_ne!(next.position.epoch, first.position.epoch);
    let read = fleet.read(2, id);
    assert!(read[0].starts_with("reset"), "{read:?}");
    let late = fleet.open(1);
    let ticket = fleet.subscribe(1, late, Some(first.position), None);
    let answer = fleet.subscribed(ticket).expect("subscribed");
    assert_eq!(answer.recovered, Some(false));
    assert_eq!(answer.members, ["ann".into()]);
    // The old owner comes back, and its stream is over; it does not acknowledge anything any more.
    fleet.place(0, 2, 1);
    fleet.link(0, 1);
    let ticket = fleet.publish(0, "three", None);
    fleet.flow();
    let published = fleet.published(ticket).expect("published");
    assert_eq!(published.position.epoch, next.position.epoch);
    assert_eq!(fleet.meshes[0].handing_over(), 0);
}

#[test]
fn after_an_owner_that_died_nobody_waits() {
    let mut fleet = Fleet::new(3);
    let id = fleet.open(2);
    fleet.subscribe(2, id, None, Some("ann"));
    let bob = fleet.open(1);
    fleet.subscribe(1, bob, None, Some("bob"));
    fleet.publish(0, "one", None);
    fleet.flow();
    fleet.read(2, id);
    fleet.read(1, bob);
    fleet.kill(0);
    fleet.place_all(2, 1);
    let ticket = fleet.publish(1, "two", None);
    assert!(fleet.published(ticket).is_ok());
    fleet.flow();
    fleet.pass(20_000);
    // Nobody left meanwhile, in the eyes of anybody.
    assert_eq!(fleet.read(2, id), ["reset 0", "two"]);
    assert_eq!(fleet.read(1, bob), ["reset 0", "two"]);
}

#[test]
fn an_owner_that_begins_anew_hears_from_mirrors_who_was_there() {
    let mut fleet = Fleet::new(4);
    let [ann, eve] = [(2, "ann"), (3, "eve")].map(|(child, who)| {
        let id = fleet.open(child);
        fleet.subscribe(child, id, None, Some(who));
        fleet.flow();
        id
    });
    fleet.read(2, ann);
    fleet.read(3, eve);
    fleet.kill(0);
    // One hears of the new owner some time before the other does.
    for child in [1, 2, 3] {
        fleet.place(child, 2, 1);
        fleet.flow();
        fleet.tick(500);
    }
    fleet.pass(20_000);
    assert_eq!(fleet.read(2, ann), ["reset 0"]);
    assert_eq!(fleet.read(3, eve), ["reset 0"]);
}

#[test]
fn one_that_dies_while_it_is_asked_is_not_waited_for() {
    let mut fleet = Fleet::new(3);
    fleet.publish(0, "one", None);
    fleet.unlink(0, 1);
    fleet.place(1, 2, 1);
    fleet.place(2, 2, 1);
    let ticket = fleet.publish(1, "two", None);
    let other = fleet.publish(2, "three", None);
    fleet.flow();
    // Nor is anybody who asked and is not there any more.
    assert!(fleet.meshes[1].waiting_bytes() > 100);
    fleet.unlink(1, 2);
    assert!(fleet.meshes[1].waiting_bytes() < 100);
    assert!(fleet.answer(ticket).is_none());
    fleet.kill(0);
    assert!(fleet.published(ticket).is_ok());
    assert!(fleet.answer(other).is_none());
}

#[test]
fn an_owner_whose_question_was_lost_asks_again() {
    let mut fleet = Fleet::new(2);
    let first = fleet.publish(0, "one", None);
    let first = fleet.published(first).expect("published");
    fleet.place(1, 2, 1);
    let ticket = fleet.publish(1, "two", None);
    fleet.unlink(0, 1);
    fleet.link(0, 1);
    fleet.flow();
    let next = fleet.published(ticket).expect("published");
    assert_eq!(next.position.epoch, first.position.epoch);
}

#[test]
fn a_new_owner_waits_for_an_owner_it_never_heard_of() {
    let mut fleet = Fleet::new(3);
    fleet.place(0, 2, 1);
    fleet.place(1, 2, 1);
    let first = fleet.publish(1, "one", None);
    fleet.flow();
    let first = fleet.published(first).expect("published");
    fleet.place(2, 3, 2);
    fleet.place(0, 3, 2);
    let ticket = fleet.publish(2, "two", None);
    fleet.flow();
    assert!(fleet.answer(ticket).is_none());
    fleet.place(1, 3, 2);
    fleet.flow();
    let next = fleet.published(ticket).expect("published");
    assert_eq!(next.position.epoch, first.position.epoch);
}

#[test]
fn moved_channels_are_kept_while_others_may_know_them() {
    let mut fleet = Fleet::new(2);
    for mesh in &mut fleet.meshes {
        let mut rules = RULES;
        rules.history.age_ms_max = 1;
        rules.memory.age_ms_max = 1;
        mesh.set_rules([("a".into(), rules)]);
    }
    let first = fleet.publish(0, "one", None);
    let first = fleet.published(first).expect("published");
    fleet.place_all(2, 1);
    fleet.pass(1_000);
    let next = fleet.publish(1, "two", None);
    let next = fleet.published(next).expect("published");
    assert_eq!(next.position.epoch, first.position.epoch);
    fleet.pass(2 * REMEMBERED_MS);
    assert!(fleet.meshes.iter().all(|mesh| mesh.counts() == (0, 0)));
}

#[test]
fn frames_wait_for_their_directory_until_a_deadline() {
    let mut fleet = Fleet::new(3);
    fleet.place(2, 2, 1);
    let ticket = fleet.publish(2, "one", None);
    fleet.flow();
    assert!(fleet.answer(ticket).is_none());
    fleet.place(1, 2, 1);
    fleet.flow();
    assert!(fleet.published(ticket).is_ok());
    // Held for too long, it is sent back, and comes again.
    fleet.place(2, 3, 0);
    let ticket = fleet.publish(2, "two", None);
    let owner_behind = fleet.under_way.len();
    assert!(owner_behind > 0);
    fleet.flow();
    fleet.pass(HELD_MS + RETRY_MS);
    fleet.place(0, 3, 0);
    fleet.place(1, 3, 0);
    fleet.flow();
    fleet.pass(RETRY_MS);
    assert!(fleet.published(ticket).is_ok());
}

#[test]
fn the_successor_of_a_draining_process_gets_its_channels() {
    let mut fleet = Fleet::new(2);
    let first = fleet.publish(0, "one", None);
    let first = fleet.published(first).expect("published");
    // The same directory; where it says 0, that is now 1.
    fleet.place(1, 1, 1);
    let ticket = fleet.publish(1, "two", None);
    fleet.flow();
    assert!(fleet.answer(ticket).is_none());
    fleet.place(0, 1, 1);
    fleet.flow();
    let next = fleet.published(ticket).expect("published");
    assert_eq!(next.position.epoch, first.position.epoch);
    assert_eq!(fleet.meshes[0].handing_over(), 0);
}

#[test]
fn an_older_directory_changes_nothing() {
    let mut fleet = Fleet::new(2);
    fleet.place(0, 0, 1);
    let ticket = fleet.publish(0, "one", None);
    assert!(fleet.published(ticket).is_ok());
    // Another process may take the place of a child in the same one.
    fleet.place(0, 1, 1);
    let ticket = fleet.publish(0, "one", None);
    assert!(fleet.answer(ticket).is_none());
    fleet.act(0, |mesh, now_ms| mesh.gone(now_ms, Child(1)));
    fleet.place(0, 1, 0);
    assert!(fleet.published(ticket).is_ok());
}
