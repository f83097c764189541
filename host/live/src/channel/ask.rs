//! What a child that does not own a channel asks of its owner, and hears from it.

use super::{Around, Channel, Mirror, Publishing, Role, Stage};
use crate::{
    Answer, Change, Child, Message, Position, Published, Refusal, Ring,
    frame::{Body, Kept},
    limits::{
        ANSWER_DEADLINE_MS, PUBLISHES_BYTES_MAX, PUBLISHES_MAX, REPEAT_MS_MAX, REPEATS, RETRY_MS,
    },
};
use bytes::Bytes;
use std::{collections::BTreeSet, sync::Arc};

impl<T: Copy> Channel<T> {
    /// A publication of this child; it is answered in this call where the channel is ours.
    pub fn publish<R>(
        &mut self,
        around: &mut Around<T, R>,
        now_ms: u64,
        ticket: T,
        data: Bytes,
        key: Option<&str>,
    ) {
        let (bytes, max) = (data.len(), self.local.rules.message_bytes_max);
        let answer = if bytes > max {
            Err(Refusal::TooLarge { bytes, max })
        } else if let Role::Owner(owned) = &mut self.role {
            Ok(owned.publish(&self.local, around, now_ms, data, key))
        } else if self.publishes.len() >= PUBLISHES_MAX
            || around.publishes_bytes + bytes > PUBLISHES_BYTES_MAX
        {
            Err(Refusal::Unavailable)
        } else {
            around.publishes_bytes += bytes;
            self.publishes.push_back(Publishing {
                ticket,
                number: around.number(),
                key: key.map(Into::into),
                data,
                deadline_ms: now_ms + ANSWER_DEADLINE_MS,
            });
            return self.flush(around, now_ms);
        };
        around.answers.push((ticket, Answer::Published(answer)));
    }

    /// Sends the owner what it has not been sent, if there is a link.
    pub fn flush<R>(&mut self, around: &mut Around<T, R>, now_ms: u64) {
        let Role::Away(mirror) = &mut self.role else {
            return;
        };
        let on_it = !self.local.subscribers.is_empty() || !self.waiting.is_empty();
        let subscribes = on_it && mirror.stage == Stage::Lost;
        let questions = self.questions.iter().any(|one| one.asked.is_none());
        if !(subscribes || questions || self.sent < self.publishes.len())
            || now_ms < self.retry_at_ms
        {
            return;
        }
        let owner = around.directory.owner(&self.local.name);
        let Some(owner) = owner.filter(|owner| *owner != around.directory.me) else {
            return;
        };
        if !around.links.up(now_ms, owner) {
            return;
        }
        let name = &self.local.name;
        if subscribes {
            let serial = around.number();
            mirror.stage = Stage::Asked(owner, serial);
            let first = || self.waiting.iter().find_map(|waiting| waiting.from);
            let from = mirror.ring.as_ref().map(Ring::position).or_else(first);
            let here = &self.local.here;
            let others = mirror.members.iter().filter(|m| !here.contains_key(*m));
            let subscribe = Body::Subscribe {
                serial,
                from,
                members: self.local.members(),
                others: others.cloned().collect(),
            };
            around.send(owner, name, subscribe);
        }
        let settled = self.publishes.front().map_or(0, |first| first.number);
        for publishing in self.publishes.range(self.sent..) {
            let publish = Body::Publish {
                number: publishing.number,
                settled,
                key: publishing.key.clone(),
                data: publishing.data.clone(),
            };
            around.send(owner, name, publish);
        }
        self.sent = self.publishes.len();
        self.sent_to = Some(owner);
        for question in self.questions.iter_mut().filter(|one| one.asked.is_none()) {
            question.asked = Some(owner);
            let request = question.number;
            around.send(owner, name, Body::Members { request });
        }
    }

    /// What was asked of a child will not be answered by it: there is no link any more, or the channel is not there.
    pub fn unasked<R>(&mut self, around: &mut Around<T, R>, now_ms: u64, by: Child) {
        if let Some(mirror) = self.role.mirror()
            && mirror.stage.at() == Some(by)
        {
            mirror.stage = Stage::Lost;
            self.waiting.iter_mut().for_each(|one| one.asked = None);
        }
        if self.sent_to == Some(by) {
            (self.sent, self.sent_to) = (0, None);
        }
        for question in &mut self.questions {
            question.asked = question.asked.filter(|asked| *asked != by);
        }
        if around.directory.owner(&self.local.name) == Some(by) {
            self.retry_at_ms = now_ms + RETRY_MS;
        }
        self.flush(around, now_ms);
    }

    /// There is a link, or another owner: no reason to wait.
    pub fn ask_at_once<R>(&mut self, around: &mut Around<T, R>, now_ms: u64) {
        self.retry_at_ms = 0;
        self.flush(around, now_ms);
    }

    /// A mirror that nobody here looks at ends.
    pub(super) fn let_go<R>(&mut self, around: &mut Around<T, R>) {
        let Role::Away(mirror) = &mut self.role else {
            return;
        };
        if self.local.subscribers.is_empty() && self.waiting.is_empty() {
            if let Some(at) = mirror.stage.at() {
                let stays = false;
                around.send(at, &self.local.name, Body::Unsubscribe { stays });
            }
            *mirror = Mirror::new();
        }
    }

    /// Says again, now and then, that this mirror lives and whom it has.
    pub(super) fn repeat<R>(&mut self, around: &mut Around<T, R>, now_ms: u64) {
        let Role::Away(mirror) = &mut self.role else {
            return;
        };
        if let Stage::Live(at) = mirror.stage
            && now_ms >= mirror.repeat_at_ms
        {
            let expires_ms = self.local.rules.patience.expires_after_ms;
            mirror.repeat_at_ms = now_ms + (expires_ms / REPEATS).min(REPEAT_MS_MAX);
            let members = self.local.members();
            around.send(at, &self.local.name, Body::Here { members });
        }
    }

    /// A member has a first connection here.
    pub(super) fn arrive<R>(&mut self, around: &mut Around<T, R>, now_ms: u64, member: Arc<str>) {
        if !self.local.count(&member) {
            return;
        }
        match &mut self.role {
            Role::Owner(owned) => {
                let change = owned.presence.report(now_ms, around.id, &member);
                owned.tell(&self.local, around, change);
            }
            Role::Away(mirror) => {
                if mirror.members.insert(Arc::clone(&member)) {
                    let change = Change::Joined(Arc::clone(&member));
                    self.local.tell(around, &change);
                }
                if let Some(at) = mirror.stage.at() {
                    let here = true;
                    around.send(at, &self.local.name, Body::Member { member, here });
                }
            }
            Role::Pulling(_) => {}
        }
    }

    /// A member has one connection less here.
    pub(super) fn depart<R>(&mut self, around: &mut Around<T, R>, now_ms: u64, member: Arc<str>) {
        if !self.local.uncount(&member) {
            return;
        }
        match &mut self.role {
            Role::Owner(owned) => owned.presence.gone(now_ms, around.id, &member),
            Role::Away(mirror) => {
                if let Some(at) = mirror.stage.at() {
                    let here = false;
                    around.send(at, &self.local.name, Body::Member { member, here });
                }
            }
            Role::Pulling(_) => {}
        }
    }

    /// An answer to the publication at that place in the queue.
    pub(super) fn settle<R>(
        &mut self,
        around: &mut Around<T, R>,
        index: usize,
        answer: Result<Published, Refusal>,
    ) {
        if let Some(publishing) = self.publishes.remove(index) {
            self.sent -= usize::from(index < self.sent);
            around.publishes_bytes -= publishing.data.len();
            let answer = Answer::Published(answer);
            around.answers.push((publishing.ticket, answer));
        }
    }

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
                let asked = |question: &super::Question<T>| question.number == request;
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
        let asked = |waiting: &&mut super::Waiting<T>| waiting.asked == Some(request);
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

impl super::Local {
    /// What changed in between.
    pub(super) fn tell_difference<T, R>(
        &self,
        around: &mut Around<T, R>,
        before: &BTreeSet<Arc<str>>,
        now: &BTreeSet<Arc<str>>,
    ) {
        for left in before.difference(now) {
            self.tell(around, &Change::Left(Arc::clone(left)));
        }
        for joined in now.difference(before) {
            self.tell(around, &Change::Joined(Arc::clone(joined)));
        }
    }
}
