//! Moves of a channel to a child, and away from it.

use super::{Channel, MeshContext, Mirror, Pulling, Role, Stage};
use crate::{
    Answer, Child, ITEM_BYTES, Ring,
    frame::{Body, Handover},
    limits::HANDOVER_DEADLINE_MS,
    owned::Owned,
    requests::Request,
};
use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    sync::Arc,
};

impl<T: Copy> Channel<T> {
    /// The channel is ours, by the directory, and another child may have it. `offered` says that it is on its way out
    /// from here, so that where it is will be heard without asking.
    pub fn claim<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64, offered: bool) {
        let Role::Away(mirror) = &mut self.role else {
            return;
        };
        let mirror = mem::replace(mirror, Mirror::new());
        let before = context.directory.before(&self.local.name);
        let nobody = before.is_empty() && !offered;
        self.role = Role::Pulling(Box::new(Pulling {
            mirror,
            from: before.into_iter().map(|child| (child, false)).collect(),
            deadline_ms: now_ms + HANDOVER_DEADLINE_MS,
            queue: VecDeque::new(),
        }));
        if nobody {
            self.begin(context, now_ms);
        } else {
            self.pull(context, now_ms);
        }
    }

    /// Asks whoever may have it, and waits no longer than it should.
    pub fn pull<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64) {
        let Role::Pulling(pulling) = &mut self.role else {
            return;
        };
        if now_ms >= pulling.deadline_ms {
            return self.begin(context, now_ms);
        }
        for (child, asked) in pulling.from.iter_mut().filter(|(_, asked)| !asked) {
            if context.links.up(now_ms, *child) {
                *asked = true;
                let versions = context.directory.versions();
                context.send(*child, &self.local.name, Body::Pull { versions });
            }
        }
    }

    /// Takes a child's word that it has nothing of the channel; begins a new epoch when no child is left that may have it.
    pub fn nothing<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64, child: Child) {
        let Role::Pulling(pulling) = &mut self.role else {
            return;
        };
        let before = pulling.from.len();
        pulling.from.retain(|(from, _)| *from != child);
        if pulling.from.is_empty() && before > 0 {
            self.begin(context, now_ms);
        }
    }

    /// Begins a new epoch. Members of before are given time to be reported again.
    fn begin<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64) {
        let mut owned = Owned::new((context.epochs)(), &self.local.rules);
        if let Some(mirror) = self.role.mirror() {
            for member in &mirror.members {
                owned.presence.expect(now_ms, member);
            }
        }
        self.install(context, now_ms, owned);
    }

    /// Takes over a channel that was handed over.
    pub fn take<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64, handed: Handover) {
        let owned = Owned::of(now_ms, &self.local.rules, handed);
        self.install(context, now_ms, owned);
    }

    fn install<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64, mut owned: Owned) {
        let (mirror, queue) = match &mut self.role {
            Role::Owner(_) => return,
            Role::Pulling(pulling) => (&mut pulling.mirror, mem::take(&mut pulling.queue)),
            Role::Away(mirror) => (mirror, VecDeque::new()),
        };
        let mirror = mem::replace(mirror, Mirror::new());
        if let Some(at) = mirror.stage.at() {
            let stays = true;
            context.send(at, &self.local.name, Body::Unsubscribe { stays });
        }
        if let Some(ring) = &mirror.ring {
            let position = owned.ring.position();
            match owned.ring.since(now_ms, ring.position()) {
                Some(missed) => missed.for_each(|message| self.local.deliver(context, message)),
                None => self.local.reset(context, position),
            }
        }
        let members = self.local.members();
        owned.presence.report_all(now_ms, context.id, &members);
        let now: BTreeSet<_> = owned.presence.members().into_iter().collect();
        self.local
            .announce_difference(context, &mirror.members, &now);
        self.role = Role::Owner(Box::new(owned));
        self.waiting.iter_mut().for_each(|one| one.asked = None);
        self.publish_queued(context, now_ms);
        for (child, frame) in queue {
            context.pulled_bytes -= frame.bytes();
            self.serve(context, now_ms, child, &frame);
        }
        context.ready.push(Arc::clone(&self.local.name));
    }

    /// Publishes what waited for another owner: it may have reached that one, and be in what it handed over.
    fn publish_queued<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64) {
        let Role::Owner(owned) = &mut self.role else {
            return;
        };
        (self.sent, self.sent_to) = (0, None);
        for publishing in mem::take(&mut self.publishes) {
            context.publishes_bytes -= ITEM_BYTES + publishing.data.len();
            let number = publishing.number;
            let answer = match owned.requests.came(now_ms, context.id, number, number) {
                Request::Again(answer) => Ok(answer),
                Request::Late => Err(crate::Refusal::Unavailable),
                Request::New => {
                    let (data, key) = (publishing.data, publishing.key.as_deref());
                    Ok(owned.publish(&self.local, context, now_ms, data, key))
                }
            };
            // A copy of it that is still under way is late from now on.
            owned
                .requests
                .came(now_ms, context.id, number + 1, number + 1);
            let answer = Answer::Published(answer);
            context.answers.push((publishing.ticket, answer));
        }
    }

    /// State that another child needs to own the channel. From now on it is not ours: whoever mirrors it is told, and
    /// those who are here go on as its mirror.
    pub fn hand_over<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
    ) -> Option<Handover> {
        let Role::Owner(owned) = &mut self.role else {
            return None;
        };
        let handover = owned.hand_over(now_ms);
        Self::announce_moved(&self.local.name, context, owned.mirrors());
        let history = self.local.rules.history;
        let kept = handover.kept.clone();
        self.role = Role::Away(Mirror {
            stage: Stage::Lost,
            ring: Some(Ring::at(now_ms, handover.position, history, kept)),
            members: owned.presence.members().into_iter().collect(),
            repeat_at_ms: 0,
        });
        self.retry_at_ms = 0;
        self.release(context);
        Some(handover)
    }

    /// Gives up a channel that was to be ours, and is another's by a newer directory.
    pub fn not_ours<R>(&mut self, context: &mut MeshContext<T, R>) {
        if let Role::Pulling(pulling) = &mut self.role {
            let mut mirror = mem::replace(&mut pulling.mirror, Mirror::new());
            // Its owner has not heard who came and left meanwhile.
            mirror.repeat_at_ms = 0;
            let asked: BTreeSet<_> = pulling.queue.iter().map(|(child, _)| *child).collect();
            let bytes = pulling.queue.iter().map(|(_, frame)| frame.bytes());
            context.pulled_bytes -= bytes.sum::<usize>();
            Self::announce_moved(&self.local.name, context, asked);
            self.role = Role::Away(mirror);
            self.release(context);
            context.ready.push(Arc::clone(&self.local.name));
        }
    }

    /// Mirrors a channel that another child owns, by the directory.
    pub fn owned_by<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64, owner: Child) {
        self.not_ours(context);
        if let Role::Away(mirror) = &mut self.role
            && let Some(at) = mirror.stage.at().filter(|at| *at != owner)
        {
            let stays = true;
            context.send(at, &self.local.name, Body::Unsubscribe { stays });
            self.withdraw(context, now_ms, at);
        }
        if let Some(at) = self.sent_to.filter(|at| *at != owner) {
            self.withdraw(context, now_ms, at);
        }
        for question in &mut self.questions {
            question.asked = question.asked.filter(|asked| *asked == owner);
        }
        self.ask_at_once(context, now_ms);
    }
}
