//! A channel as one child has it: as its owner, as a mirror of its owner, or on the way from one to the other.

mod answer;
mod ask;
mod moving;
mod receive;
mod serve;

use crate::{
    Answer, Child, Frame, Message, Position, Refusal, Ring, Rules,
    context::MeshContext,
    limits::{ANSWER_DEADLINE_MS, QUESTIONS_MAX},
    local::Local,
    owned::Owned,
};
use bytes::Bytes;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

/// A subscription that has no answer yet.
pub(crate) struct Waiting<T> {
    ticket: T,
    id: u64,
    from: Option<Position>,
    deadline_ms: u64,
    /// Number of the question to the owner, and its answer.
    asked: Option<u64>,
    found: Option<Option<Vec<Arc<Message>>>>,
}

/// A publication for the owner.
pub(crate) struct Publishing<T> {
    ticket: T,
    number: u64,
    key: Option<Box<str>>,
    data: Bytes,
    deadline_ms: u64,
}

/// A question for the members of a channel.
pub(crate) struct Question<T> {
    ticket: T,
    number: u64,
    deadline_ms: u64,
    asked: Option<Child>,
}

/// A mirror's way to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Lost,
    Asked(Child, u64),
    Live(Child),
}

impl Stage {
    fn at(self) -> Option<Child> {
        match self {
            Self::Lost => None,
            Self::Asked(at, _) | Self::Live(at) => Some(at),
        }
    }
}

/// State of a channel that another child owns.
pub(crate) struct Mirror {
    stage: Stage,
    /// The stream up to the position that the subscribers here have; none before the first answer.
    ring: Option<Ring>,
    members: BTreeSet<Arc<str>>,
    repeat_at_ms: u64,
}

impl Mirror {
    fn new() -> Self {
        Self {
            stage: Stage::Lost,
            ring: None,
            members: BTreeSet::new(),
            repeat_at_ms: 0,
        }
    }
}

/// A channel that is ours, and may have been another's.
pub(crate) struct Pulling {
    /// The channel as it was mirrored before; its owner goes on until it hands over.
    mirror: Mirror,
    /// Children that may have the channel, and whether each was asked on the present link.
    from: Vec<(Child, bool)>,
    deadline_ms: u64,
    queue: VecDeque<(Child, Frame)>,
}

pub(crate) enum Role {
    Owner(Box<Owned>),
    Pulling(Box<Pulling>),
    Away(Mirror),
}

impl Role {
    /// The mirror that this channel is, or was.
    fn mirror(&mut self) -> Option<&mut Mirror> {
        match self {
            Self::Owner(_) => None,
            Self::Pulling(pulling) => Some(&mut pulling.mirror),
            Self::Away(mirror) => Some(mirror),
        }
    }
}

/// A channel in this child: its subscribers here, its role, and requests that have no answer yet.
pub(crate) struct Channel<T> {
    pub local: Local,
    pub role: Role,
    waiting: Vec<Waiting<T>>,
    /// By rising number; the first `sent` are sent to `sent_to`.
    publishes: VecDeque<Publishing<T>>,
    sent: usize,
    sent_to: Option<Child>,
    questions: Vec<Question<T>>,
    /// Time before which the owner is not asked again.
    retry_at_ms: u64,
}

impl<T: Copy> Channel<T> {
    /// A channel of which nothing is known yet.
    pub fn new(name: Arc<str>, rules: Rules) -> Self {
        Self {
            local: Local::new(name, rules),
            role: Role::Away(Mirror::new()),
            waiting: Vec::new(),
            publishes: VecDeque::new(),
            sent: 0,
            sent_to: None,
            questions: Vec::new(),
            retry_at_ms: 0,
        }
    }

    pub fn set_rules(&mut self, rules: Rules) {
        self.local.rules = rules;
        if let Role::Owner(owned) = &mut self.role {
            owned.set_rules(&rules);
        } else if let Some(ring) = self.role.mirror().and_then(|mirror| mirror.ring.as_mut()) {
            ring.set_history(rules.history);
        }
    }

    /// Whether the channel can be forgotten without a loss.
    pub fn is_idle(&self) -> bool {
        let here = !self.local.subscribers.is_empty()
            || !self.waiting.is_empty()
            || !self.publishes.is_empty()
            || !self.questions.is_empty();
        !here
            && match &self.role {
                Role::Owner(owned) => owned.is_idle(),
                Role::Pulling(pulling) => pulling.queue.is_empty(),
                Role::Away(mirror) => mirror.stage == Stage::Lost,
            }
    }

    /// Subscribes a connection; the answer comes at the end of this call, or later.
    pub fn subscribe<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        (ticket, id): (T, u64),
        from: Option<Position>,
        member: Option<Arc<str>>,
    ) -> Result<(), Refusal> {
        let most = self.local.rules.subscribers_max;
        if self.local.subscribers.len() + self.waiting.len() >= most {
            return Err(Refusal::TooManySubscribers(most));
        }
        let name = &self.local.name;
        context.connections.subscribe(id, name, member.clone());
        self.waiting.push(Waiting {
            ticket,
            id,
            from,
            deadline_ms: now_ms + ANSWER_DEADLINE_MS,
            asked: None,
            found: None,
        });
        if let Some(member) = member {
            self.arrive(context, now_ms, member);
        }
        self.flush(context, now_ms);
        context.ready.push(Arc::clone(&self.local.name));
        Ok(())
    }

    /// Lets a connection wait for its answer without a deadline.
    pub fn wait_on(&mut self, id: u64) {
        let mut waiting = self.waiting.iter_mut();
        if let Some(waiting) = waiting.find(|waiting| waiting.id == id) {
            waiting.deadline_ms = u64::MAX;
        }
    }

    /// Ends the subscription of a connection.
    pub fn unsubscribe<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        id: u64,
        was: crate::connections::Subscription,
        refusal: Refusal,
    ) {
        match was.index {
            Some(index) => self.local.remove(context, index),
            None => {
                let position = self.waiting.iter().position(|waiting| waiting.id == id);
                if let Some(position) = position {
                    let ticket = self.waiting.remove(position).ticket;
                    let answer = Answer::Subscribed(Err(refusal));
                    context.answers.push((ticket, answer));
                }
            }
        }
        if let Some(member) = was.member {
            self.depart(context, now_ms, member);
        }
        self.release(context);
    }

    /// Changes the member of a connection's subscription.
    pub fn set_member<R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        id: u64,
        member: Option<Arc<str>>,
    ) {
        let known = context.connections.subscription(id, &self.local.name);
        let Some(known) = known.filter(|known| known.member != member) else {
            return;
        };
        let was = std::mem::replace(&mut known.member, member.clone());
        if let Some(member) = member {
            self.arrive(context, now_ms, member);
        }
        if let Some(was) = was {
            self.depart(context, now_ms, was);
        }
    }

    /// Asks for the members of the channel.
    pub fn ask_members<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64, ticket: T) {
        if self.questions.len() >= QUESTIONS_MAX {
            let answer = Answer::Members(Err(Refusal::Unavailable));
            return context.answers.push((ticket, answer));
        }
        self.questions.push(Question {
            ticket,
            number: context.number(),
            deadline_ms: now_ms + ANSWER_DEADLINE_MS,
            asked: None,
        });
        context.ready.push(Arc::clone(&self.local.name));
        if !self.is_live() {
            self.flush(context, now_ms);
        }
    }

    pub fn is_owned(&self) -> bool {
        matches!(self.role, Role::Owner(_))
    }

    /// Whether this child owns the channel, and something was published.
    pub fn has_begun(&self) -> bool {
        matches!(&self.role, Role::Owner(owned) if owned.ring.position().offset > 0)
    }

    fn is_live(&self) -> bool {
        match &self.role {
            Role::Owner(_) => true,
            Role::Away(mirror) => matches!(mirror.stage, Stage::Live(_)),
            Role::Pulling(_) => false,
        }
    }

    /// Gives up what waits for too long, and repeats what others have to know; called some times a second.
    pub fn tick<R>(&mut self, context: &mut MeshContext<T, R>, now_ms: u64) {
        self.expire(context, now_ms);
        match &mut self.role {
            Role::Owner(owned) => owned.tick(&self.local, context, now_ms),
            Role::Pulling(_) => self.pull(context, now_ms),
            Role::Away(_) => {
                self.repeat(context, now_ms);
                self.flush(context, now_ms);
            }
        }
    }
}
