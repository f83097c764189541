//! Frames that the owner of a channel sends to a child that mirrors it.

use super::{Channel, MeshContext, Question, Stage, Waiting};
use crate::{
    Answer, Change, Child, Message, Position, Ring,
    frame::{Body, KeptMessage},
};
use bytes::Bytes;
use std::sync::Arc;

impl<T: Copy> Channel<T> {
    /// Takes a frame of the owner, or of a former one.
    pub fn receive<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        child: Child,
        body: Body,
    ) {
        match body {
            Body::Subscribed {
                serial,
                position,
                missed,
                members,
            } => self.subscribed(
                context,
                now_ms,
                (child, serial),
                (position, missed),
                members,
            ),
            Body::Message { position, data } => {
                self.message(context, now_ms, child, (position, data));
            }
            Body::Presence(change) => self.changed(context, child, change),
            Body::Recovered {
                request,
                position,
                missed,
            } => self.recovered(context, (request, position), missed),
            Body::MembersAre { request, members } => {
                let asked = |question: &Question<T>| question.number == request;
                if let Some(index) = self.questions.iter().position(asked) {
                    let ticket = self.questions.remove(index).ticket;
                    context.answers.push((ticket, Answer::Members(Ok(members))));
                }
            }
            Body::Published { number, answer } => {
                let index = self.publishes.binary_search_by_key(&number, |p| p.number);
                // A child that refuses may have been given up for another.
                if let Ok(index) = index
                    && (answer.is_ok() || self.sent_to == Some(child))
                {
                    self.answer_publication(context, index, answer);
                }
            }
            Body::Moved => self.withdraw(context, now_ms, child),
            _ => {}
        }
    }

    fn subscribed<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        (child, serial): (Child, u64),
        (position, missed): (Position, Option<Vec<KeptMessage>>),
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
                for KeptMessage { age_ms, data } in missed {
                    let message = ring.push_aged(now_ms, age_ms, data);
                    self.local.deliver(context, &message);
                }
            }
            (ring, missed) => {
                if ring.is_some() {
                    self.local.reset(context, position);
                }
                let missed = missed.unwrap_or_default();
                *ring = Some(Ring::at(now_ms, position, history, missed));
            }
        }
        let here = self.local.here.keys().cloned();
        let now = members.into_iter().chain(here).collect();
        let before = std::mem::replace(&mut mirror.members, now);
        self.local
            .announce_difference(context, &before, &mirror.members);
        context.ready.push(Arc::clone(&self.local.name));
    }

    fn message<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        child: Child,
        (position, data): (Position, Bytes),
    ) {
        let Some(mirror) = self.role.mirror() else {
            return self.not_mine(context, child);
        };
        let (Stage::Live(at), Some(ring)) = (mirror.stage, &mut mirror.ring) else {
            return self.not_mine(context, child);
        };
        if at != child {
            return self.not_mine(context, child);
        }
        let last = ring.position();
        if position.epoch == last.epoch && position.offset == last.offset + 1 {
            let message = ring.push(now_ms, data);
            self.local.deliver(context, &message);
        } else if position.epoch != last.epoch || position.offset > last.offset {
            // Not what a link that keeps its order brings: ask again from where it was right.
            self.withdraw(context, now_ms, child);
        }
    }

    fn changed<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        child: Child,
        change: Change<Arc<str>>,
    ) {
        let mirror = self.role.mirror();
        let Some(mirror) = mirror.filter(|mirror| mirror.stage == Stage::Live(child)) else {
            return self.not_mine(context, child);
        };
        let news = match &change {
            Change::Joined(member) => mirror.members.insert(Arc::clone(member)),
            // The member is here again, which the owner is about to be sent.
            Change::Left(member) if self.local.here.contains_key(member) => false,
            Change::Left(member) => mirror.members.remove(member),
        };
        if news {
            self.local.announce(context, &change);
        }
    }

    fn recovered<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        (request, position): (u64, Position),
        missed: Option<Vec<KeptMessage>>,
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
            let messages = |missed: Vec<KeptMessage>| {
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
        context.ready.push(Arc::clone(&self.local.name));
    }

    /// A child believes that this one mirrors it.
    fn not_mine<R>(&mut self, context: &mut MeshContext<T, R>, child: Child) {
        let mirror = self.role.mirror();
        if mirror.and_then(|mirror| mirror.stage.at()) != Some(child) {
            let stays = true;
            context.send(child, &self.local.name, Body::Unsubscribe { stays });
        }
    }
}
