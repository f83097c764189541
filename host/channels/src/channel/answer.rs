//! Answers to those who wait, when there is one.

use super::{Channel, MeshContext, Mirror, Role, Stage, Waiting};
use crate::{Answer, Refusal, Subscribed, frame::Body};
use std::sync::Arc;

impl<T: Copy> Channel<T> {
    /// Gives the answers that can be given now. The last thing in a call, so that nothing of a subscription is queued
    /// before the caller has its answer.
    pub fn answer<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            match self.answer_one(context, now_ms, &mut waiting) {
                Some(answer) => {
                    let answer = Answer::Subscribed(Ok(answer));
                    context.answers.push((waiting.ticket, answer));
                }
                None => self.waiting.push(waiting),
            }
        }
        if self.is_live() {
            for question in std::mem::take(&mut self.questions) {
                let answer = Answer::Members(Ok(self.members()));
                context.answers.push((question.ticket, answer));
            }
        }
    }

    fn members(&self) -> Vec<Arc<str>> {
        match &self.role {
            Role::Owner(owned) => owned.presence.members(),
            Role::Away(Mirror { members, .. }) => members.iter().cloned().collect(),
            Role::Pulling(pulling) => pulling.mirror.members.iter().cloned().collect(),
        }
    }

    fn answer_one<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        waiting: &mut Waiting<T>,
    ) -> Option<Subscribed> {
        let (ring, owner) = match &mut self.role {
            Role::Owner(owned) => (&mut owned.ring, None),
            Role::Away(mirror) => match (&mut mirror.ring, mirror.stage) {
                (Some(ring), Stage::Live(at)) => (ring, Some(at)),
                _ => return None,
            },
            Role::Pulling(_) => return None,
        };
        let position = ring.position();
        let missed = match (waiting.from, waiting.found.take()) {
            (None, _) => None,
            (Some(_), Some(found)) => Some(found),
            (Some(from), None) => {
                let missed = ring.since(now_ms, from);
                let missed = missed.map(|missed| missed.cloned().collect());
                // A mirror may know less than its owner, and may not have heard yet of what a client has seen elsewhere.
                let asks = missed.is_none() && from.epoch == position.epoch;
                if let Some(owner) = owner.filter(|_| asks) {
                    if waiting.asked.is_none() {
                        let request = context.number();
                        waiting.asked = Some(request);
                        context.send(owner, &self.local.name, Body::Recover { request, from });
                    }
                    return None;
                }
                Some(missed)
            }
        };
        let subscription = self.local.insert(context, waiting.id)?;
        Some(Subscribed {
            subscription,
            position,
            recovered: missed.as_ref().map(Option::is_some),
            missed: missed.flatten().unwrap_or_default(),
            members: self.members(),
        })
    }

    /// Refuses what has waited for too long.
    pub(super) fn expire<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64) {
        let late = |waiting: &Waiting<T>| now_ms >= waiting.deadline_ms;
        while let Some(late) = self.waiting.iter().position(late) {
            let id = self.waiting[late].id;
            if let Some(was) = context.connections.unsubscribe(id, &self.local.name) {
                self.unsubscribe(context, now_ms, id, was, Refusal::Unavailable);
            }
        }
        while let Some(first) = self.publishes.front()
            && now_ms >= first.deadline_ms
        {
            self.answer_publication(context, 0, Err(Refusal::Unavailable));
        }
        let answers = &mut context.answers;
        self.questions.retain(|question| {
            let late = now_ms >= question.deadline_ms;
            if late {
                answers.push((question.ticket, Answer::Members(Err(Refusal::Unavailable))));
            }
            !late
        });
    }
}
