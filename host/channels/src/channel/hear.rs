//! Frames that a child hears from the owner of a channel.

use super::{Around, Channel, Question, Stage, Waiting};
use crate::{
    Answer, Change, Child, Message, Position, Ring,
    frame::{Body, Kept},
};
use bytes::Bytes;
use std::sync::Arc;

impl<T: Copy> Channel<T> {
    /// An owner, or one that was it, says something.
    pub fn hear<R>(&mut self, around: &mut Around<T, R>, now_ms: u64, child: Child, body: Body) {
        match body {
            Body::Subscribed {
                serial,
                position,
                missed,
                members,
            } => self.subscribed(around, now_ms, (child, serial), (position, missed), members),
            Body::Message { position, data } => {
                self.message(around, now_ms, child, (position, data));
            }
            Body::Presence(change) => self.changed(around, child, change),
            Body::Recovered {
                request,
                position,
                missed,
            } => self.recovered(around, (request, position), missed),
            Body::MembersAre { request, members } => {
                let asked = |question: &Question<T>| question.number == request;
                if let Some(index) = self.questions.iter().position(asked) {
                    let ticket = self.questions.remove(index).ticket;
                    around.answers.push((ticket, Answer::Members(Ok(members))));
                }
            }
            Body::Published { number, answer } => {
                let index = self.publishes.binary_search_by_key(&number, |p| p.number);
                // One that refuses may have been given up for another.
                if let Ok(index) = index
                    && (answer.is_ok() || self.sent_to == Some(child))
                {
                    self.settle(around, index, answer);
                }
            }
            Body::Moved => self.unasked(around, now_ms, child),
            _ => {}
        }
    }

    fn subscribed<R>(
        &mut self,
        around: &mut Around<T, R>,
        now_ms: u64,
        (child, serial): (Child, u64),
        (position, missed): (Position, Option<Vec<Kept>>),
        members: Vec<Arc<str>>,
    ) {
        let history = self.local.rules.history;
        let Some(mirror) = self.role.mirror() else {
            return;
        };
        if mirror.stage != Stage::Asked(child, serial) {
            return;
        }
        mirror.stage = Stage::Live(child);
        match (&mut mirror.ring, missed) {
            (Some(ring), Some(missed)) => {
                for Kept { age_ms, data } in missed {
                    let message = ring.push_aged(now_ms, age_ms, data);
                    self.local.deliver(around, &message);
                }
            }
            (ring, missed) => {
                if ring.is_some() {
                    self.local.reset(around, position);
                }
                let missed = missed.unwrap_or_default();
                *ring = Some(Ring::at(now_ms, position, history, missed));
            }
        }
        let here = self.local.here.keys().cloned();
        let now = members.into_iter().chain(here).collect();
        let before = std::mem::replace(&mut mirror.members, now);
        self.local.tell_difference(around, &before, &mirror.members);
        around.ready.push(Arc::clone(&self.local.name));
    }

    fn message<R>(
        &mut self,
        around: &mut Around<T, R>,
        now_ms: u64,
        child: Child,
        (position, data): (Position, Bytes),
    ) {
        let Some(mirror) = self.role.mirror() else {
            return self.not_mine(around, child);
        };
        let (Stage::Live(at), Some(ring)) = (mirror.stage, &mut mirror.ring) else {
            return self.not_mine(around, child);
        };
        if at != child {
            return self.not_mine(around, child);
        }
        let last = ring.position();
        if position.epoch == last.epoch && position.offset == last.offset + 1 {
            let message = ring.push(now_ms, data);
            self.local.deliver(around, &message);
        } else if position.epoch != last.epoch || position.offset > last.offset {
            // Not what a link that keeps its order brings: ask again from where it was right.
            self.unasked(around, now_ms, child);
        }
    }

    fn changed<R>(&mut self, around: &mut Around<T, R>, child: Child, change: Change<Arc<str>>) {
        let mirror = self.role.mirror();
        let Some(mirror) = mirror.filter(|mirror| mirror.stage == Stage::Live(child)) else {
            return self.not_mine(around, child);
        };
        let news = match &change {
            Change::Joined(member) => mirror.members.insert(Arc::clone(member)),
            // One who is here again, as the owner is about to hear.
            Change::Left(member) if self.local.here.contains_key(member) => false,
            Change::Left(member) => mirror.members.remove(member),
        };
        if news {
            self.local.tell(around, &change);
        }
    }

    fn recovered<R>(
        &mut self,
        around: &mut Around<T, R>,
        (request, position): (u64, Position),
        missed: Option<Vec<Kept>>,
    ) {
        let live = self.is_live();
        let asked = |waiting: &&mut Waiting<T>| waiting.asked == Some(request);
        let Some(waiting) = self.waiting.iter_mut().find(asked) else {
            return;
        };
        waiting.asked = None;
        let mirror = self.role.mirror();
        let ring = mirror.and_then(|mirror| mirror.ring.as_ref());
        if live && ring.map(Ring::position) == Some(position) {
            let messages = |missed: Vec<Kept>| {
                let before = position.offset - missed.len() as u64;
                let offsets = before + 1..;
                let messages = offsets.zip(missed).map(|(offset, kept)| {
                    let position = Position { offset, ..position };
                    Arc::new(Message::new(position, kept.data))
                });
                messages.collect()
            };
            waiting.found = Some(missed.map(messages));
        }
        around.ready.push(Arc::clone(&self.local.name));
    }

    /// A child believes that this one mirrors it.
    fn not_mine<R>(&mut self, around: &mut Around<T, R>, child: Child) {
        let mirror = self.role.mirror();
        if mirror.and_then(|mirror| mirror.stage.at()) != Some(child) {
            let stays = true;
            around.send(child, &self.local.name, Body::Unsubscribe { stays });
        }
    }
}
