//! Limits, each hit.

use crate::fleet::{Fleet, RULES};
use protoplex_channels::{
    Child, Frame, FrameError, Refusal, Rules,
    limits::{HELD_MAX, PUBLISHES_MAX, PULLED_FRAMES_MAX, QUESTIONS_MAX},
};

#[test]
fn no_more_wait_for_an_owner_than_may() {
    let mut fleet = Fleet::new(2);
    fleet.unlink(0, 1);
    for _ in 0..PUBLISHES_MAX {
        let ticket = fleet.publish(1, "", None);
        assert!(fleet.answer(ticket).is_none());
    }
    let ticket = fleet.publish(1, "", None);
    assert_eq!(fleet.published(ticket), Err(Refusal::Unavailable));
    for _ in 0..QUESTIONS_MAX {
        let ticket = fleet.members(1);
        assert!(fleet.answer(ticket).is_none());
    }
    let ticket = fleet.members(1);
    assert_eq!(fleet.has_members(ticket), Err(Refusal::Unavailable));
}

#[test]
fn no_more_wait_for_a_channel_that_moves_than_may() {
    let mut fleet = Fleet::new(3);
    fleet.publish(0, "one", None);
    // The old owner is out of reach of the new one.
    fleet.unlink(0, 1);
    fleet.place(1, 2, 1);
    fleet.place(2, 2, 1);
    for _ in 0..PULLED_FRAMES_MAX {
        let ticket = fleet.publish(2, "", None);
        fleet.flow();
        assert!(fleet.answer(ticket).is_none());
    }
    let ticket = fleet.publish(1, "", None);
    fleet.flow();
    assert!(fleet.answer(ticket).is_none(), "that is another queue");
    fleet.link(0, 1);
    fleet.flow();
    assert!(fleet.published(ticket).is_ok());
}

#[test]
fn no_more_frames_from_the_future_wait_than_may() {
    let mut fleet = Fleet::new(3);
    let mut other = Fleet::new(3);
    fleet.place(2, 2, 1);
    other.place(2, 2, 1);
    other.publish(2, "", None);
    let (_, _, frame) = other.under_way.pop_front().expect("it is sent");
    for number in 0..=HELD_MAX {
        let frame = frame.clone();
        let sent = fleet.act(1, |mesh, now_ms| mesh.received(now_ms, Child(2), frame));
        assert_eq!(sent, usize::from(number == HELD_MAX), "sent back");
    }
}

#[test]
fn other_rules_hold_for_channels_that_are_there() {
    let mut fleet = Fleet::new(1);
    let ticket = fleet.publish(0, "one", None);
    assert!(fleet.published(ticket).is_ok());
    let rules = Rules {
        message_bytes_max: 2,
        ..RULES
    };
    fleet.meshes[0].set_rules([("a".into(), rules)]);
    let ticket = fleet.publish(0, "one", None);
    let refused = Refusal::TooLarge { bytes: 3, max: 2 };
    assert_eq!(fleet.published(ticket), Err(refused));
}

#[test]
fn a_channel_without_rules_is_refused_until_they_are_back() {
    let mut fleet = Fleet::new(2);
    let (here, away) = (fleet.open(0), fleet.open(1));
    fleet.subscribe(0, here, None, Some("ann"));
    fleet.subscribe(1, away, None, Some("bob"));
    fleet.flow();
    let first = fleet.publish(0, "one", None);
    let first = fleet.published(first).expect("it is published");
    fleet.flow();
    fleet.read(1, away);
    // The owner has heard of a build without the namespace, and the other child has not.
    fleet.meshes[0].set_rules([]);
    let refused = Err(Refusal::NoNamespace);
    let ticket = fleet.publish(0, "refused", None);
    assert_eq!(fleet.published(ticket), refused);
    let ticket = fleet.members(0);
    assert_eq!(fleet.has_members(ticket), Err(Refusal::NoNamespace));
    let other = fleet.open(0);
    let ticket = fleet.subscribe(0, other, None, None);
    assert!(matches!(
        fleet.subscribed(ticket),
        Err(Refusal::NoNamespace)
    ));
    let subscriptions: Vec<_> = fleet.meshes[0].subscriptions(here).cloned().collect();
    assert_eq!(subscriptions, ["a:b".into()], "the caller ends it");
    let (was, _) = fleet.meshes[0].unsubscribe(1, here, &"a:b".into());
    assert!(was);
    let ticket = fleet.publish(1, "two", None);
    fleet.flow();
    let second = fleet.published(ticket).expect("it is published");
    assert_eq!(fleet.read(1, away), ["two"]);
    // That build is taken back.
    fleet.meshes[0].set_rules([("a".into(), RULES)]);
    let ticket = fleet.subscribe(0, here, Some(first.position), None);
    let back = fleet.subscribed(ticket).expect("it is subscribed");
    assert_eq!(
        (back.recovered, back.position),
        (Some(true), second.position)
    );
    // Once it is ended everywhere, nothing is kept of it for longer than it would be.
    for child in 0..2 {
        fleet.meshes[child].set_rules([]);
    }
    for (child, id) in [(0, here), (1, away)] {
        fleet.act(child, |mesh, now_ms| {
            mesh.unsubscribe(now_ms, id, &"a:b".into()).1
        });
    }
    fleet.flow();
    fleet.pass(RULES.history.age_ms_max + 60_000);
    let channels = fleet.meshes.iter().map(|mesh| mesh.counts().0);
    assert_eq!(channels.collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn a_frame_takes_the_contents_that_it_had_and_no_others() {
    let mut fleet = Fleet::new(2);
    fleet.publish(1, "one", None);
    let (_, _, frame) = fleet.under_way.pop_front().expect("it is sent");
    let whole = frame.encode().expect("it is small").slice(4..);
    let (head, one) = whole.split_at(whole.len() - "one".len() - 4);
    assert_eq!(one, b"\0\0\0\x03one");
    let none = Frame::decode(head.to_vec().into());
    assert!(matches!(none, Err(FrameError::WrongContents)));
    let two = Frame::decode([head, one, one].concat().into());
    assert!(matches!(two, Err(FrameError::WrongContents)));
    assert!(Frame::decode(whole).is_ok());
}
