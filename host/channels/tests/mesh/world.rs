//! The children, what is under way between them, and what happens to them.

mod acts;
mod checks;

use crate::{
    Random, Seen,
    client::Client,
    truth::{KEYS_MS, Publication, Truth},
};
use protoplex_channels::{
    Answer, Child, Effects, Frame, History, Memory, Mesh, Overflow, PresenceDelays, Rules,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

pub const CHANNELS: [&str; 6] = ["all:a", "all:b", "all:c", "all:d", "some:e", "last:f"];
pub const PLACES: usize = 4;
pub const CLIENTS: usize = 8;
pub const LEAVE_AFTER_MS: u64 = 400;
pub const EXPIRES_AFTER_MS: u64 = 3_000;

/// Severity of the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Links break and come back, channels move, and children drain before they stop.
    Calm,
    /// Children die, and some cannot reach each other, or hear of no new directory, for a long time.
    Wild,
}

/// An event that comes to a child from another, in order.
pub enum Event {
    Linked(u64),
    Frame(Frame),
    Unlinked,
    Gone,
}

pub enum Ticket {
    Subscribe(usize, Arc<str>),
    Publish(Publication),
    Members(Arc<str>),
}

/// One process.
pub struct Process {
    pub mesh: Mesh<u64, u64>,
    /// Newest directory that it has.
    pub version: usize,
    pub inbox: BTreeMap<Child, VecDeque<Event>>,
    /// The links it has, by their number.
    pub links: HashMap<Child, u64>,
    pub drains: bool,
}

pub struct World {
    pub random: Random,
    pub weather: Weather,
    pub now_ms: u64,
    pub processes: BTreeMap<Child, Process>,
    /// Which process has which place.
    pub places: [Child; PLACES],
    pub children_ever: u32,
    pub epochs: Arc<AtomicU64>,
    /// All directories, oldest first: of each channel, its owner.
    pub directories: Vec<BTreeMap<&'static str, Child>>,
    /// Links as they are, by the lower child first.
    pub links: HashMap<(Child, Child), u64>,
    pub links_ever: u64,
    /// Until when two cannot reach each other.
    pub apart: HashMap<(Child, Child), u64>,
    /// Until when one hears of no directory.
    pub deaf: HashMap<Child, u64>,
    pub clients: Vec<Client>,
    pub tickets: HashMap<u64, (Child, Ticket)>,
    pub tickets_ever: u64,
    pub contents_ever: u64,
    pub truth: Truth,
    pub seen: Seen,
}

fn rules(weather: Weather, overflow: Overflow) -> Rules {
    let calm = weather == Weather::Calm;
    Rules {
        history: History {
            messages_max: if calm { 100_000 } else { 12 },
            bytes_max: if calm { 1 << 30 } else { 500 },
            age_ms_max: if calm { 10_000_000 } else { 2_000 },
        },
        overflow,
        memory: Memory {
            keys_max: 10_000,
            age_ms_max: KEYS_MS,
        },
        presence: PresenceDelays {
            leave_after_ms: LEAVE_AFTER_MS,
            expires_after_ms: EXPIRES_AFTER_MS,
        },
        message_bytes_max: 60,
        subscribers_max: 100,
    }
}

pub fn pair(a: Child, b: Child) -> (Child, Child) {
    (a.min(b), a.max(b))
}

impl World {
    pub fn new(number: u64, weather: Weather) -> Self {
        let mut world = Self {
            random: Random(number),
            weather,
            now_ms: 1,
            processes: BTreeMap::new(),
            places: [Child(0); PLACES],
            children_ever: 0,
            epochs: Arc::new(AtomicU64::new(1)),
            directories: vec![BTreeMap::new()],
            links: HashMap::new(),
            links_ever: 0,
            apart: HashMap::new(),
            deaf: HashMap::new(),
            // Two pages of each person.
            clients: (0..CLIENTS)
                .map(|number| Client::new(format!("person-{}", number / 2).into()))
                .collect(),
            tickets: HashMap::new(),
            tickets_ever: 0,
            contents_ever: 0,
            truth: Truth::default(),
            seen: Seen::default(),
        };
        for place in 0..PLACES {
            world.start(place);
        }
        let all = CHANNELS.into_iter().map(|channel| {
            let place = world.random.of(PLACES);
            (channel, world.places[place])
        });
        let all = all.collect();
        world.directories.push(all);
        for child in world.places {
            world.learn(child);
        }
        world
    }

    /// A new process at a place. It has the directory before it is in one.
    pub fn start(&mut self, place: usize) {
        let epochs = Arc::clone(&self.epochs);
        self.children_ever += 1;
        let child = Child(self.children_ever);
        let namespaces = [
            ("all".into(), rules(self.weather, Overflow::Disconnect)),
            ("some".into(), rules(self.weather, Overflow::DropOldest)),
            ("last".into(), rules(self.weather, Overflow::LatestOnly)),
        ];
        let process = Process {
            mesh: Mesh::new(namespaces, move || epochs.fetch_add(1, Relaxed), child),
            version: 0,
            inbox: BTreeMap::new(),
            links: HashMap::new(),
            drains: false,
        };
        self.processes.insert(child, process);
        self.places[place] = child;
        self.learn(child);
    }

    /// A child hears of the newest directory, or one on the way there.
    pub fn learn(&mut self, child: Child) {
        let newest = self.directories.len() - 1;
        let process = self.processes.get_mut(&child).expect("it lives");
        let version = match newest - process.version {
            0 => return,
            ahead => process.version + 1 + self.random.of(ahead),
        };
        process.version = version;
        let directory = self.directories[version].clone();
        let owner = move |channel: &str| directory.get(channel).copied();
        let effects = process.mesh.place(self.now_ms, version as u64, owner);
        self.act_on(child, effects);
    }

    /// A child does something.
    pub fn at(&mut self, child: Child, act: impl FnOnce(&mut Mesh<u64, u64>, u64) -> Effects<u64>) {
        if let Some(process) = self.processes.get_mut(&child) {
            let effects = act(&mut process.mesh, self.now_ms);
            self.act_on(child, effects);
        }
    }

    fn act_on(&mut self, child: Child, effects: Effects<u64>) {
        for (ticket, answer) in effects.answers {
            self.answered(child, ticket, answer);
        }
        for (to, frame) in effects.send {
            self.send(child, to, frame);
        }
        for to in effects.connect {
            self.link(child, to);
        }
        let mesh = &self.processes[&child].mesh;
        for id in effects.wake {
            let backlog = mesh.backlog(id).expect("who is woken is there");
            assert!(backlog.0 > 0);
        }
        for id in effects.close {
            let mut clients = self.clients.iter();
            let slow = clients.position(|client| client.at == Some((child, id)));
            self.lose(slow.expect("who is closed was open"));
        }
    }

    fn send(&mut self, from: Child, to: Child, frame: Frame) {
        let link = self.processes[&from].links.get(&to);
        let link = *link.expect("frames are for links that are up");
        if self.links.get(&pair(from, to)) != Some(&link) {
            return; // It broke, and `from` does not know yet.
        }
        // As it travels, behind its length.
        let encoded = frame.encode().expect("it is small");
        let frame = Frame::decode(encoded.slice(4..)).expect("it was written so");
        let receiver = self.processes.get_mut(&to).expect("it has the link");
        receiver
            .inbox
            .entry(from)
            .or_default()
            .push_back(Event::Frame(frame));
    }

    fn link(&mut self, a: Child, b: Child) {
        let lives = self.processes.contains_key(&b);
        let apart = self.apart.get(&pair(a, b));
        let apart = apart.is_some_and(|until_ms| *until_ms > self.now_ms);
        if !lives || apart || self.links.contains_key(&pair(a, b)) {
            return;
        }
        self.links_ever += 1;
        self.links.insert(pair(a, b), self.links_ever);
        for (of, with) in [(a, b), (b, a)] {
            let process = self.processes.get_mut(&of).expect("it lives");
            let inbox = process.inbox.entry(with).or_default();
            inbox.push_back(Event::Linked(self.links_ever));
        }
    }

    /// A link breaks; what is under way is lost, some of it or all.
    pub fn unlink(&mut self, a: Child, b: Child) {
        if self.links.remove(&pair(a, b)).is_none() {
            return;
        }
        for (of, with) in [(a, b), (b, a)] {
            let Some(process) = self.processes.get_mut(&of) else {
                continue;
            };
            let inbox = process.inbox.entry(with).or_default();
            while matches!(inbox.back(), Some(Event::Frame(_))) && !self.random.one_in(3) {
                inbox.pop_back();
            }
            inbox.push_back(Event::Unlinked);
        }
    }

    /// A process ends: those it had links to hear of that, and some time later all know that it is dead.
    pub fn stop(&mut self, child: Child) {
        let others: Vec<_> = self.processes.keys().copied().collect();
        for other in others.into_iter().filter(|other| *other != child) {
            self.unlink(child, other);
            let process = self.processes.get_mut(&other).expect("it lives");
            let inbox = process.inbox.entry(child).or_default();
            inbox.push_back(Event::Gone);
        }
        self.processes.remove(&child);
        self.tickets.retain(|_, (at, _)| *at != child);
        for client in &mut self.clients {
            if client.at.is_some_and(|(at, _)| at == child) {
                client.disconnected();
            }
        }
    }

    /// One event, of those that wait for a child.
    pub fn deliver(&mut self, child: Child, from: Child) -> bool {
        let Some(process) = self.processes.get_mut(&child) else {
            return false;
        };
        let inbox = process.inbox.get_mut(&from);
        let Some(event) = inbox.and_then(VecDeque::pop_front) else {
            return false;
        };
        match event {
            Event::Linked(link) => {
                process.links.insert(from, link);
                self.at(child, |mesh, now_ms| mesh.linked(now_ms, from));
            }
            Event::Frame(frame) => {
                self.at(child, |mesh, now_ms| mesh.received(now_ms, from, frame));
            }
            Event::Unlinked => {
                process.links.remove(&from);
                self.at(child, |mesh, now_ms| mesh.unlinked(now_ms, from));
            }
            Event::Gone => {
                process.inbox.remove(&from);
                self.at(child, |mesh, now_ms| mesh.gone(now_ms, from));
            }
        }
        true
    }

    fn answered(&mut self, child: Child, ticket: u64, answer: Answer) {
        let known = self.tickets.remove(&ticket);
        let (at, ticket_of) = known.expect("each ticket has one answer");
        assert_eq!(at, child);
        match (ticket_of, answer) {
            (Ticket::Subscribe(client, name), Answer::Subscribed(answer)) => {
                self.subscribed(client, name, ticket, answer);
            }
            (Ticket::Publish(publication), Answer::Published(answer)) => {
                self.published(publication, answer);
            }
            (Ticket::Members(_), Answer::Members(answer)) => {
                if answer.is_err() {
                    self.unavailable();
                }
            }
            _ => panic!("an answer of another kind"),
        }
    }

    /// Everybody alive, and who waits for them.
    pub fn waiting(&self) -> BTreeSet<(Child, Child)> {
        let mut waiting = BTreeSet::new();
        for (child, process) in &self.processes {
            for (from, inbox) in &process.inbox {
                if !inbox.is_empty() {
                    waiting.insert((*child, *from));
                }
            }
        }
        waiting
    }
}
