//! A few children, all linked, with nothing under way but what a test has not delivered yet.

use protoplex_channels::{
    Answer, Child, ConnectionId, ConnectionLimits, Effects, Frame, History, Item, Memory, Mesh,
    Notice, Overflow, Position, PresenceDelays, Published, QueueItem, Refusal, Rules, Subscribed,
};
use std::{collections::VecDeque, sync::Arc};

pub const RULES: Rules = Rules {
    history: History {
        messages_max: 10,
        bytes_max: 1_000,
        age_ms_max: 1_000_000,
    },
    overflow: Overflow::Disconnect,
    memory: Memory {
        keys_max: 10,
        age_ms_max: 1_000_000,
    },
    presence: PresenceDelays {
        leave_after_ms: 1_000,
        expires_after_ms: 9_000,
    },
    message_bytes_max: 100,
    subscribers_max: 10,
};

pub const LIMITS: ConnectionLimits = ConnectionLimits {
    queue_bytes_max: 10_000,
    subscriptions_max: 10,
};

/// Several children whose frames the test delivers. The children are 0, 1, and so on; tickets count up.
pub struct Fleet {
    pub meshes: Vec<Mesh<u32>>,
    pub now_ms: u64,
    pub under_way: VecDeque<(u32, u32, Frame)>,
    /// Links wanted since the test last looked.
    pub wanted: Vec<(u32, u32)>,
    answers: Vec<(u32, Answer)>,
    links: Vec<(u32, u32)>,
    tickets: u32,
}

impl Fleet {
    /// So many, of which the first owns everything.
    pub fn new(children: u32) -> Self {
        let meshes = (0..children).map(|child| {
            let mut epochs = u64::from(child + 1) * 1_000;
            let epochs = move || {
                epochs += 1;
                epochs
            };
            Mesh::new([("a".into(), RULES)], epochs, Child(child))
        });
        let mut fleet = Self {
            meshes: meshes.collect(),
            now_ms: 1,
            under_way: VecDeque::new(),
            wanted: Vec::new(),
            answers: Vec::new(),
            links: Vec::new(),
            tickets: 0,
        };
        for child in 0..children {
            fleet.place(child, 1, 0);
            (0..child).for_each(|other| fleet.link(child, other));
        }
        fleet
    }

    pub fn act(
        &mut self,
        child: u32,
        act: impl FnOnce(&mut Mesh<u32>, u64) -> Effects<u32>,
    ) -> usize {
        let effects = act(&mut self.meshes[child as usize], self.now_ms);
        self.answers.extend(effects.answers);
        let sent = effects.send.len();
        for (to, frame) in effects.send {
            self.under_way.push_back((child, to.0, frame));
        }
        let wanted = effects.connect.into_iter();
        self.wanted.extend(wanted.map(|to| (child, to.0)));
        sent
    }

    /// All is delivered, and what comes of it.
    pub fn flow(&mut self) {
        while let Some((from, to, frame)) = self.under_way.pop_front() {
            self.act(to, |mesh, now_ms| mesh.received(now_ms, Child(from), frame));
        }
    }

    pub fn tick(&mut self, after_ms: u64) {
        self.now_ms += after_ms;
        for child in 0..self.meshes.len() as u32 {
            self.act(child, |mesh, now_ms| mesh.tick(now_ms));
        }
        self.flow();
    }

    /// For that long, in steps that no deadline is shorter than.
    pub fn pass(&mut self, time_ms: u64) {
        let end_ms = self.now_ms + time_ms;
        while self.now_ms < end_ms {
            self.tick(100.min(end_ms - self.now_ms));
        }
    }

    /// A child hears that everything is that other's.
    pub fn place(&mut self, child: u32, version: u64, owner: u32) {
        self.act(child, |mesh, now_ms| {
            mesh.place(now_ms, version, move |_| Some(Child(owner)))
        });
    }

    pub fn place_all(&mut self, version: u64, owner: u32) {
        for child in 0..self.meshes.len() as u32 {
            self.place(child, version, owner);
        }
        self.flow();
    }

    pub fn link(&mut self, a: u32, b: u32) {
        self.links.push((a.min(b), a.max(b)));
        self.act(a, |mesh, now_ms| mesh.linked(now_ms, Child(b)));
        self.act(b, |mesh, now_ms| mesh.linked(now_ms, Child(a)));
    }

    /// The link breaks, and what is under way is lost.
    pub fn unlink(&mut self, a: u32, b: u32) {
        self.links.retain(|link| *link != (a.min(b), a.max(b)));
        self.under_way
            .retain(|(from, to, _)| (*from, *to) != (a, b) && (*from, *to) != (b, a));
        self.act(a, |mesh, now_ms| mesh.unlinked(now_ms, Child(b)));
        self.act(b, |mesh, now_ms| mesh.unlinked(now_ms, Child(a)));
    }

    /// A child dies, and the others hear of it.
    pub fn kill(&mut self, child: u32) {
        for other in (0..self.meshes.len() as u32).filter(|other| *other != child) {
            if self.links.contains(&(other.min(child), other.max(child))) {
                self.unlink(child, other);
            }
            self.act(other, |mesh, now_ms| mesh.gone(now_ms, Child(child)));
        }
    }

    pub fn open(&mut self, child: u32) -> ConnectionId {
        self.meshes[child as usize].open(LIMITS)
    }

    pub fn subscribe(
        &mut self,
        child: u32,
        id: ConnectionId,
        from: Option<Position>,
        member: Option<&str>,
    ) -> u32 {
        self.tickets += 1;
        let ticket = self.tickets;
        let member = member.map(Arc::from);
        self.act(child, |mesh, now_ms| {
            mesh.subscribe(now_ms, ticket, id, &"a:b".into(), from, member)
        });
        ticket
    }

    pub fn set_member(&mut self, child: u32, id: ConnectionId, member: Option<&str>) {
        let member = member.map(Arc::from);
        self.act(child, |mesh, now_ms| {
            mesh.set_member(now_ms, id, &"a:b".into(), member)
        });
    }

    pub fn publish(&mut self, child: u32, text: &str, key: Option<&str>) -> u32 {
        self.tickets += 1;
        let ticket = self.tickets;
        let data = text.to_owned().into();
        self.act(child, |mesh, now_ms| {
            mesh.publish(now_ms, ticket, &"a:b".into(), data, key)
        });
        ticket
    }

    pub fn members(&mut self, child: u32) -> u32 {
        self.tickets += 1;
        let ticket = self.tickets;
        self.act(child, |mesh, now_ms| {
            mesh.members(now_ms, ticket, &"a:b".into())
        });
        ticket
    }

    pub fn answer(&mut self, ticket: u32) -> Option<Answer> {
        let found = self.answers.iter().position(|(of, _)| *of == ticket)?;
        Some(self.answers.remove(found).1)
    }

    #[track_caller]
    pub fn subscribed(&mut self, ticket: u32) -> Result<Subscribed, Refusal> {
        match self.answer(ticket) {
            Some(Answer::Subscribed(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn published(&mut self, ticket: u32) -> Result<Published, Refusal> {
        match self.answer(ticket) {
            Some(Answer::Published(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn has_members(&mut self, ticket: u32) -> Result<Vec<Arc<str>>, Refusal> {
        match self.answer(ticket) {
            Some(Answer::Members(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// All that waits for a connection, in few words.
    pub fn read(&mut self, child: u32, id: ConnectionId) -> Vec<String> {
        let mesh = &mut self.meshes[child as usize];
        let items = std::iter::from_fn(|| mesh.next(id));
        let words = items.map(|item| match item {
            Item::Message(_, message) => String::from_utf8_lossy(&message.data).into_owned(),
            Item::Reply(QueueItem::Notice(Notice::Reset(_, at)), _) => {
                format!("reset {}", at.offset)
            }
            Item::Reply(QueueItem::Notice(Notice::Presence(_, change)), _) => format!("{change:?}"),
            Item::Reply(QueueItem::Reply(()), _) => "reply".to_owned(),
        });
        words.collect()
    }
}
