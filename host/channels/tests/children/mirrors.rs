//! Channels of another child.

use crate::fleet::Fleet;
use protoplex_channels::{
    Position, Refusal,
    limits::{ANSWER_DEADLINE_MS, RETRY_MS},
};

#[test]
fn a_child_mirrors_a_channel_once_for_all_of_its_connections() {
    let mut fleet = Fleet::new(2);
    let [a, b] = [fleet.open(1), fleet.open(1)];
    let first = fleet.subscribe(1, a, None, None);
    assert!(fleet.answer(first).is_none());
    fleet.flow();
    let first = fleet.subscribed(first).expect("it is subscribed");
    // The second is answered here.
    let second = fleet.subscribe(1, b, Some(first.position), None);
    assert!(fleet.under_way.is_empty());
    let second = fleet.subscribed(second).expect("it is subscribed");
    assert_eq!(second.recovered, Some(true));
    fleet.publish(0, "one", None);
    assert_eq!(fleet.under_way.len(), 1);
    fleet.flow();
    assert_eq!(fleet.read(1, a), ["one"]);
    assert_eq!(fleet.read(1, b), ["one"]);
    // And given up with the last of them.
    for id in [a, b] {
        assert!(fleet.under_way.is_empty());
        fleet.act(1, |mesh, now_ms| mesh.close(now_ms, id));
    }
    assert_eq!(fleet.under_way.len(), 1);
    fleet.flow();
    fleet.publish(0, "two", None);
    assert!(fleet.under_way.is_empty());
}

#[test]
fn a_mirror_asks_its_owner_for_what_it_does_not_know() {
    let mut fleet = Fleet::new(2);
    for text in ["one", "two", "three"] {
        fleet.publish(0, text, None);
    }
    let [a, b] = [fleet.open(1), fleet.open(1)];
    let ticket = fleet.subscribe(1, a, None, None);
    fleet.flow();
    let at = fleet.subscribed(ticket).expect("subscribed").position;
    assert_eq!(at.offset, 3);
    let from = Position { offset: 1, ..at };
    let ticket = fleet.subscribe(1, b, Some(from), None);
    assert!(fleet.answer(ticket).is_none());
    // What comes meanwhile comes once.
    fleet.publish(0, "four", None);
    fleet.flow();
    let answer = fleet.subscribed(ticket).expect("subscribed");
    let missed = answer.missed.iter().map(|message| message.position.offset);
    assert_eq!(answer.recovered, Some(true));
    assert_eq!(missed.chain([0]).collect::<Vec<_>>(), [2, 3, 4, 0]);
    assert!(fleet.read(1, b).is_empty());
}

#[test]
fn what_a_broken_link_lost_is_asked_for_again() {
    let mut fleet = Fleet::new(2);
    let id = fleet.open(1);
    fleet.subscribe(1, id, None, None);
    fleet.flow();
    fleet.publish(0, "one", None);
    fleet.unlink(0, 1);
    assert_eq!(fleet.wanted, [(1, 0)]);
    fleet.publish(0, "two", None);
    assert!(fleet.read(1, id).is_empty());
    fleet.link(0, 1);
    fleet.flow();
    assert_eq!(fleet.read(1, id), ["one", "two"]);
    // What is too much for the history is said to be missing.
    fleet.unlink(0, 1);
    for _ in 0..11 {
        fleet.publish(0, "many", None);
    }
    fleet.link(0, 1);
    fleet.flow();
    assert_eq!(fleet.read(1, id), ["reset 13"]);
    // Nothing is sent to one that does not ask again.
    fleet.unlink(0, 1);
    fleet.act(1, |mesh, now_ms| mesh.close(now_ms, id));
    fleet.link(0, 1);
    fleet.publish(0, "last", None);
    assert!(fleet.under_way.is_empty());
}

#[test]
fn a_publication_whose_answer_is_lost_is_not_published_twice() {
    let mut fleet = Fleet::new(2);
    let ticket = fleet.publish(1, "one", None);
    let (from, to, frame) = fleet.under_way.pop_front().expect("it is sent");
    assert_eq!((from, to), (1, 0));
    fleet.act(0, |mesh, now_ms| {
        mesh.received(now_ms, protoplex_channels::Child(1), frame)
    });
    fleet.unlink(0, 1);
    assert!(fleet.answer(ticket).is_none());
    fleet.link(0, 1);
    fleet.flow();
    let first = fleet.published(ticket).expect("it is published");
    let next = fleet.publish(0, "two", None);
    let next = fleet.published(next).expect("it is published");
    assert_eq!((first.position.offset, next.position.offset), (1, 2));
    assert!(!first.repeated);
}

#[test]
fn who_waits_for_an_owner_out_of_reach_is_refused_in_time() {
    let mut fleet = Fleet::new(2);
    fleet.unlink(0, 1);
    let id = fleet.open(1);
    let subscribe = fleet.subscribe(1, id, None, None);
    let publish = fleet.publish(1, "one", None);
    let members = fleet.members(1);
    fleet.wanted.clear();
    fleet.pass(ANSWER_DEADLINE_MS - 1);
    for ticket in [subscribe, publish, members] {
        assert!(fleet.answer(ticket).is_none());
    }
    // The link was wanted all the time, but not all too often.
    let most = (ANSWER_DEADLINE_MS / RETRY_MS) as usize;
    assert!((most / 2..=most).contains(&fleet.wanted.len()));
    fleet.tick(1);
    let unavailable = Refusal::Unavailable;
    assert_eq!(fleet.subscribed(subscribe).err(), Some(unavailable.clone()));
    assert_eq!(fleet.published(publish).err(), Some(unavailable.clone()));
    assert_eq!(fleet.has_members(members).err(), Some(unavailable));
    // It may ask again.
    fleet.link(0, 1);
    let subscribe = fleet.subscribe(1, id, None, None);
    fleet.flow();
    assert!(fleet.subscribed(subscribe).is_ok());
}

#[test]
fn subscriptions_of_handlers_wait_for_an_owner_without_limit() {
    let mut fleet = Fleet::new(2);
    fleet.unlink(0, 1);
    let [patient, other] = [fleet.open(1), fleet.open(1)];
    let ticket = fleet.subscribe(1, patient, None, Some("ann"));
    fleet.meshes[1].wait_on(patient, "a:b");
    let refused = fleet.subscribe(1, other, None, None);
    fleet.pass(3 * ANSWER_DEADLINE_MS);
    assert_eq!(fleet.subscribed(refused).err(), Some(Refusal::Unavailable));
    assert!(fleet.answer(ticket).is_none());
    fleet.link(0, 1);
    fleet.flow();
    let answer = fleet.subscribed(ticket).expect("it is subscribed");
    assert_eq!(answer.members, ["ann".into()]);
    fleet.publish(0, "one", None);
    fleet.flow();
    assert_eq!(fleet.read(1, patient), ["one"]);
}

#[test]
fn a_ticket_of_a_connection_that_goes_is_answered() {
    let mut fleet = Fleet::new(2);
    let id = fleet.open(1);
    let ticket = fleet.subscribe(1, id, None, None);
    fleet.act(1, |mesh, now_ms| {
        let (was, effects) = mesh.unsubscribe(now_ms, id, &"a:b".into());
        assert!(was);
        effects
    });
    let refused = fleet.subscribed(ticket).err();
    assert_eq!(refused, Some(Refusal::Unsubscribed));
    let ticket = fleet.subscribe(1, id, None, None);
    fleet.act(1, |mesh, now_ms| mesh.close(now_ms, id));
    let refused = fleet.subscribed(ticket).err();
    assert_eq!(refused, Some(Refusal::NoConnection));
    fleet.flow();
    assert!(fleet.answer(ticket).is_none());
}

#[test]
fn presence_agrees_on_all_children_and_survives_reconnects() {
    let mut fleet = Fleet::new(3);
    let watch = fleet.open(2);
    fleet.subscribe(2, watch, None, Some("eve"));
    fleet.flow();
    let ann = fleet.open(1);
    fleet.subscribe(1, ann, None, Some("ann"));
    fleet.flow();
    assert_eq!(fleet.read(2, watch), [r#"Joined("ann")"#]);
    let ticket = fleet.members(0);
    let members = fleet.has_members(ticket).expect("it is the owner");
    assert_eq!(members, ["ann".into(), "eve".into()]);
    // She reloads her page, and is sent to another child.
    fleet.act(1, |mesh, now_ms| mesh.close(now_ms, ann));
    fleet.pass(900);
    let ann = fleet.open(0);
    fleet.subscribe(0, ann, None, Some("ann"));
    fleet.pass(30_000);
    assert!(fleet.read(2, watch).is_empty());
    // A child that asks without being on it hears the same.
    let ticket = fleet.members(1);
    fleet.flow();
    let members = fleet.has_members(ticket).expect("it was asked");
    assert_eq!(members, ["ann".into(), "eve".into()]);
    fleet.act(0, |mesh, now_ms| mesh.close(now_ms, ann));
    fleet.pass(1_100);
    assert_eq!(fleet.read(2, watch), [r#"Left("ann")"#]);
}

#[test]
fn who_hides_or_is_seen_again_misses_nothing() {
    let mut fleet = Fleet::new(2);
    let [watch, ann] = [fleet.open(0), fleet.open(1)];
    fleet.subscribe(0, watch, None, None);
    fleet.subscribe(1, ann, None, Some("ann"));
    fleet.flow();
    assert_eq!(fleet.read(0, watch), [r#"Joined("ann")"#]);
    fleet.publish(0, "waits", None);
    fleet.flow();
    fleet.publish(0, "under way", None);
    fleet.set_member(1, ann, None);
    fleet.publish(0, "later", None);
    fleet.flow();
    assert_eq!(fleet.read(1, ann), ["waits", "under way", "later"]);
    assert_eq!(fleet.read(0, watch), ["waits", "under way", "later"]);
    // She may be seen again in time, and never left.
    fleet.pass(900);
    fleet.set_member(1, ann, Some("ann"));
    fleet.flow();
    fleet.pass(30_000);
    assert!(fleet.read(0, watch).is_empty());
    fleet.set_member(1, ann, None);
    fleet.flow();
    fleet.pass(1_100);
    for (child, id) in [(0, watch), (1, ann)] {
        assert_eq!(fleet.read(child, id), [r#"Left("ann")"#]);
    }
    // Others of the mirror hear who she is now at once, as she does.
    fleet.set_member(1, ann, Some("eve"));
    assert_eq!(fleet.read(1, ann), [r#"Joined("eve")"#]);
    fleet.flow();
    assert_eq!(fleet.read(0, watch), [r#"Joined("eve")"#]);
}

#[test]
fn who_hides_before_it_has_its_answer_is_not_seen_for_long() {
    let mut fleet = Fleet::new(2);
    fleet.unlink(0, 1);
    let ann = fleet.open(1);
    let ticket = fleet.subscribe(1, ann, None, Some("ann"));
    fleet.set_member(1, ann, None);
    fleet.link(0, 1);
    fleet.flow();
    assert!(fleet.subscribed(ticket).is_ok());
    fleet.pass(1_100);
    for child in 0..2 {
        let ticket = fleet.members(child);
        assert_eq!(fleet.has_members(ticket), Ok(vec![]));
    }
}

#[test]
fn who_comes_as_the_owner_says_that_they_left_is_still_there() {
    let mut fleet = Fleet::new(2);
    let [watch, ann] = [fleet.open(1), fleet.open(0)];
    fleet.subscribe(1, watch, None, None);
    fleet.subscribe(0, ann, None, Some("ann"));
    fleet.flow();
    fleet.read(1, watch);
    fleet.act(0, |mesh, now_ms| mesh.close(now_ms, ann));
    fleet.act(0, |mesh, now_ms| mesh.tick(now_ms + 1_000));
    fleet.now_ms += 1_000;
    let ann = fleet.open(1);
    let ticket = fleet.subscribe(1, ann, None, Some("ann"));
    fleet.flow();
    assert!(fleet.subscribed(ticket).is_ok());
    let read = fleet.read(1, watch);
    assert!(read.is_empty(), "{read:?}");
}

#[test]
fn those_of_a_dead_child_leave_after_a_while() {
    let mut fleet = Fleet::new(3);
    let watch = fleet.open(0);
    fleet.subscribe(0, watch, None, None);
    let ann = fleet.open(1);
    fleet.subscribe(1, ann, None, Some("ann"));
    let bob = fleet.open(2);
    fleet.subscribe(2, bob, None, Some("bob"));
    fleet.flow();
    assert_eq!(fleet.read(0, watch).len(), 2);
    fleet.kill(1);
    fleet.tick(900);
    assert!(fleet.read(0, watch).is_empty());
    fleet.tick(200);
    assert_eq!(fleet.read(0, watch), [r#"Left("ann")"#]);
}
