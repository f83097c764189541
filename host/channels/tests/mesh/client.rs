//! A page: what it has seen of each channel, and what it makes of what comes.

use crate::{Seen, truth::Truth};
use protoplex_channels::{
    Change, Child, ConnectionId, Item, Message, Notice, Position, QueueItem, Subscribed,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// State of a channel that a client keeps.
#[derive(Default)]
pub struct View {
    pub position: Option<Position>,
    pub subscription: Option<u32>,
    /// Asked for, and not answered.
    pub ticket: Option<u64>,
    /// Whether others are not to see it.
    pub hides: bool,
    pub members: BTreeSet<Arc<str>>,
}

/// A client of the random runs, and what it has received.
pub struct Client {
    pub name: Arc<str>,
    pub at: Option<(Child, ConnectionId)>,
    pub views: BTreeMap<Arc<str>, View>,
    /// Answers that wait in the connection's queue: of which channel, and from where it was asked for.
    pub answers: HashMap<u64, (Arc<str>, Option<Position>, Subscribed)>,
    /// The last subscription of this connection.
    highest: u32,
}

/// The content of a message.
pub fn content(message: &Message) -> u64 {
    let bytes = message.data[..8].try_into().expect("eight bytes and more");
    u64::from_be_bytes(bytes)
}

impl Client {
    pub fn new(name: Arc<str>) -> Self {
        Self {
            name,
            at: None,
            views: BTreeMap::new(),
            answers: HashMap::new(),
            highest: 0,
        }
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.at = None;
        self.highest = 0;
        self.answers.clear();
        for view in self.views.values_mut() {
            (view.subscription, view.ticket) = (None, None);
        }
    }

    pub fn is_on(&self, channel: &str) -> bool {
        let view = self.views.get(channel);
        view.is_some_and(|view| view.subscription.is_some())
    }

    /// The client reads something.
    pub fn reads(
        &mut self,
        truth: &mut Truth,
        seen: &mut Seen,
        calm: bool,
        item: Item<QueueItem<u64>>,
    ) {
        match item {
            Item::Reply(QueueItem::Reply(ticket), _) => self.answered(truth, seen, calm, ticket),
            Item::Reply(QueueItem::Notice(Notice::Presence(of, change)), _) => {
                let Some((_, view)) = self.view(of) else {
                    return;
                };
                match change {
                    Change::Joined(who) => {
                        assert!(view.members.insert(who), "who is there cannot join");
                    }
                    Change::Left(who) => {
                        assert!(view.members.remove(&who), "who is not there cannot leave");
                    }
                }
            }
            Item::Reply(QueueItem::Notice(Notice::Reset(of, position)), _) => {
                let Some((name, view)) = self.view(of) else {
                    return;
                };
                let before = view.position.replace(position).expect("it has one");
                seen.resets += 1;
                let nothing = truth.of(name).iter().all(|at| at.epoch != before.epoch);
                assert!(!calm || nothing, "{name} was reset at {before}");
            }
            Item::Message(of, message) => {
                let Some((name, view)) = self.view(of) else {
                    return;
                };
                let now = message.position;
                truth.stands(name, now, content(&message));
                let before = view.position.replace(now).expect("it has one");
                assert_eq!(
                    now.epoch, before.epoch,
                    "{name}: another stream, and no reset"
                );
                assert!(now.offset > before.offset, "{name}: {before}, then {now}");
                if name.starts_with("all:") {
                    assert_eq!(now.offset, before.offset + 1, "{name}: a hole");
                }
            }
        }
    }

    /// The view of a subscription that is still wanted.
    fn view(&mut self, of: u32) -> Option<(&Arc<str>, &mut View)> {
        assert!(of <= self.highest, "something came before the answer");
        let mut views = self.views.iter_mut();
        views.find(|(_, view)| view.subscription == Some(of))
    }

    fn answered(&mut self, truth: &mut Truth, seen: &mut Seen, calm: bool, ticket: u64) {
        let answer = self.answers.remove(&ticket);
        let (name, from, answer) = answer.expect("it was put there with its reply");
        self.highest = self.highest.max(answer.subscription);
        let mut at = from.unwrap_or(answer.position);
        for message in &answer.missed {
            at.offset += 1;
            assert_eq!(message.position, at, "{name}: a gap in what was missed");
            truth.stands(&name, at, content(message));
        }
        match (answer.recovered, from) {
            (None, None) => {}
            (Some(true), Some(_)) => {
                seen.recovered += 1;
                assert_eq!(answer.position, at, "{name}: something was left out");
            }
            (Some(false), Some(from)) => {
                seen.lost += 1;
                assert!(answer.missed.is_empty());
                let nothing = truth.of(&name).iter().all(|at| at.epoch != from.epoch);
                assert!(
                    !calm || nothing,
                    "{name} could have been recovered at {from}, {:?}",
                    answer.position
                );
            }
            wrong => panic!("{wrong:?}"),
        }
        let view = self.views.get_mut(&name).expect("it was asked for");
        if view.ticket == Some(ticket) {
            view.ticket = None;
            view.subscription = Some(answer.subscription);
            view.position = Some(answer.position);
            view.members = answer.members.into_iter().collect();
        }
    }
}
