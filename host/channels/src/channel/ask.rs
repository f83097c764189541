//! Questions of a child that does not own a channel to its owner.

use super::{Channel, MeshContext, Mirror, Publishing, Role, Stage};
use crate::{
    Answer, Change, Child, ITEM_BYTES, Published, Refusal, Ring,
    frame::Body,
    limits::{
        ANSWER_DEADLINE_MS, PUBLISHES_BYTES_MAX, PUBLISHES_MAX, REPEAT_MS_MAX, REPEATS, RETRY_MS,
    },
};
use bytes::Bytes;
use std::sync::Arc;

impl<T: Copy> Channel<T> {
    /// A publication of this child; it is answered in this call where the channel is ours.
    pub fn publish<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        ticket: T,
        data: Bytes,
        key: Option<&str>,
    ) {
        let (bytes, max) = (data.len(), self.local.rules.message_bytes_max);
        let answer = if bytes > max {
            Err(Refusal::TooLarge { bytes, max })
        } else if let Role::Owner(owned) = &mut self.role {
            Ok(owned.publish(&self.local, context, now_ms, data, key))
        } else if self.publishes.len() >= PUBLISHES_MAX
            || context.publishes_bytes + ITEM_BYTES + bytes > PUBLISHES_BYTES_MAX
        {
            Err(Refusal::Unavailable)
        } else {
            context.publishes_bytes += ITEM_BYTES + bytes;
            self.publishes.push_back(Publishing {
                ticket,
                number: context.number(),
                key: key.map(Into::into),
                data,
                deadline_ms: now_ms + ANSWER_DEADLINE_MS,
            });
            return self.flush(context, now_ms);
        };
        context.answers.push((ticket, Answer::Published(answer)));
    }

    /// Sends the owner what it has not been sent, if there is a link.
    pub fn flush<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64) {
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
        let owner = context.directory.owner(&self.local.name);
        let Some(owner) = owner.filter(|owner| *owner != context.directory.me) else {
            return;
        };
        if !context.links.up(now_ms, owner) {
            return;
        }
        let name = &self.local.name;
        if subscribes {
            let serial = context.number();
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
            context.send(owner, name, subscribe);
        }
        let settled = self.publishes.front().map_or(0, |first| first.number);
        for publishing in self.publishes.range(self.sent..) {
            let publish = Body::Publish {
                number: publishing.number,
                settled,
                key: publishing.key.clone(),
                data: publishing.data.clone(),
            };
            context.send(owner, name, publish);
        }
        self.sent = self.publishes.len();
        self.sent_to = Some(owner);
        for question in self.questions.iter_mut().filter(|one| one.asked.is_none()) {
            question.asked = Some(owner);
            let request = question.number;
            context.send(owner, name, Body::Members { request });
        }
    }

    /// Gives up what was asked of a child that will not answer: there is no link any more, or the channel is not there.
    pub fn withdraw<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64, by: Child) {
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
        if context.directory.owner(&self.local.name) == Some(by) {
            self.retry_at_ms = now_ms + RETRY_MS;
        }
        self.flush(context, now_ms);
    }

    /// There is a link, or another owner: no reason to wait.
    pub fn ask_at_once<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64) {
        self.retry_at_ms = 0;
        self.flush(context, now_ms);
    }

    /// Ends a mirror without subscribers.
    pub(super) fn release<R>(&mut self, context: &mut MeshContext<T, R>) {
        let Role::Away(mirror) = &mut self.role else {
            return;
        };
        if self.local.subscribers.is_empty() && self.waiting.is_empty() {
            if let Some(at) = mirror.stage.at() {
                let stays = false;
                context.send(at, &self.local.name, Body::Unsubscribe { stays });
            }
            *mirror = Mirror::new();
        }
    }

    /// Repeats, now and then, that this mirror is alive, and which members it has.
    pub(super) fn repeat<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64) {
        let Role::Away(mirror) = &mut self.role else {
            return;
        };
        if let Stage::Live(at) = mirror.stage
            && now_ms >= mirror.repeat_at_ms
        {
            let expires_ms = self.local.rules.presence.expires_after_ms;
            mirror.repeat_at_ms = now_ms + (expires_ms / REPEATS).min(REPEAT_MS_MAX);
            let members = self.local.members();
            context.send(at, &self.local.name, Body::Here { members });
        }
    }

    /// Adds a connection of a member.
    pub(super) fn arrive<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        member: Arc<str>,
    ) {
        if !self.local.count(&member) {
            return;
        }
        match &mut self.role {
            Role::Owner(owned) => {
                let change = owned.presence.report(now_ms, context.id, &member);
                owned.announce(&self.local, context, change);
            }
            Role::Away(mirror) => {
                if mirror.members.insert(Arc::clone(&member)) {
                    let change = Change::Joined(Arc::clone(&member));
                    self.local.announce(context, &change);
                }
                if let Some(at) = mirror.stage.at() {
                    let here = true;
                    context.send(at, &self.local.name, Body::Member { member, here });
                }
            }
            Role::Pulling(_) => {}
        }
    }

    /// Removes a connection of a member.
    pub(super) fn depart<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        member: Arc<str>,
    ) {
        if !self.local.uncount(&member) {
            return;
        }
        match &mut self.role {
            Role::Owner(owned) => owned.presence.gone(now_ms, context.id, &member),
            Role::Away(mirror) => {
                if let Some(at) = mirror.stage.at() {
                    let here = false;
                    context.send(at, &self.local.name, Body::Member { member, here });
                }
            }
            Role::Pulling(_) => {}
        }
    }

    /// An answer to the publication at that place in the queue.
    pub(super) fn answer_publication<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        index: usize,
        answer: Result<Published, Refusal>,
    ) {
        if let Some(publishing) = self.publishes.remove(index) {
            self.sent -= usize::from(index < self.sent);
            context.publishes_bytes -= ITEM_BYTES + publishing.data.len();
            let answer = Answer::Published(answer);
            context.answers.push((publishing.ticket, answer));
        }
    }
}
