//! Random subscribing, publishing, reading, losing of connections and passing of time, against a model that keeps
//! everything. No acknowledged message is lost or doubled where `recovered` said so, queues keep to their bounds, and
//! what a client believes about who is there comes true.

use protoplex_channels::{
    Answer, Change, Child, ConnectionId, ConnectionLimits, Effects, History, Item, Memory, Mesh,
    Notice, Overflow, Position, PresenceDelays, QueueItem, Refusal, Rules,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

const CLIENTS: usize = 6;
const CHANNELS: [&str; 4] = ["all:a", "all:b", "some:c", "last:d"];
const STEPS: usize = 2_000;
const RUNS: u64 = 200;
const QUEUE_BYTES_MAX: usize = 500;
const LEAVE_AFTER_MS: u64 = 50;

fn rules(overflow: Overflow) -> Rules {
    Rules {
        history: History {
            messages_max: 8,
            bytes_max: 160,
            age_ms_max: 400,
        },
        overflow,
        memory: Memory {
            keys_max: 16,
            age_ms_max: 300,
        },
        presence: PresenceDelays {
            leave_after_ms: LEAVE_AFTER_MS,
            expires_after_ms: 10_000,
        },
        message_bytes_max: 40,
        subscribers_max: 100,
    }
}

/// A small generator of our own, so that a failure is repeated by its number.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// State of a channel that a page keeps.
#[derive(Default)]
struct Seen {
    position: Option<Position>,
    subscription: Option<u32>,
    /// Whether others see its client there.
    shown: bool,
    members: BTreeSet<Arc<str>>,
}

struct Client {
    name: Arc<str>,
    connection: Option<ConnectionId>,
    seen: HashMap<Arc<str>, Seen>,
}

struct Model {
    hub: Mesh<()>,
    now_ms: u64,
    clients: Vec<Client>,
    /// Everything that was ever acknowledged, and when.
    log: HashMap<(Arc<str>, Position), (u64, Vec<u8>)>,
    /// The last position of each channel.
    last: HashMap<Arc<str>, Position>,
    /// The last answers to idempotency keys, and when they were given.
    answers: HashMap<(Arc<str>, String), (u64, Position)>,
    recovered: usize,
    lost: usize,
}

impl Model {
    fn new() -> Self {
        static EPOCHS: AtomicU64 = AtomicU64::new(1);
        let mut hub = Mesh::new(
            [
                ("all".into(), rules(Overflow::Disconnect)),
                ("some".into(), rules(Overflow::DropOldest)),
                ("last".into(), rules(Overflow::LatestOnly)),
            ],
            || EPOCHS.fetch_add(1, Relaxed),
            Child(0),
        );
        // All alone: no other child has anything to say.
        hub.place(0, 1, |_| Some(Child(0)));
        let clients = (0..CLIENTS).map(|number| Client {
            // Two pages of each person.
            name: format!("person-{}", number / 2).into(),
            connection: None,
            seen: HashMap::new(),
        });
        Self {
            hub,
            now_ms: 0,
            clients: clients.collect(),
            log: HashMap::new(),
            last: HashMap::new(),
            answers: HashMap::new(),
            recovered: 0,
            lost: 0,
        }
    }

    fn act_on(&mut self, effects: Effects<()>) {
        assert!(
            effects.send.is_empty() && effects.connect.is_empty() && effects.answers.is_empty()
        );
        for id in effects.wake {
            let (bytes, _) = self.hub.backlog(id).expect("who is woken is there");
            assert!(bytes > 0);
        }
        for id in effects.close {
            let slow = self.clients.iter().position(|c| c.connection == Some(id));
            self.lose(slow.expect("who is closed was open"));
        }
    }

    fn lose(&mut self, client: usize) {
        let client = &mut self.clients[client];
        if let Some(id) = client.connection.take() {
            self.hub.close(self.now_ms, id);
        }
        for seen in client.seen.values_mut() {
            seen.subscription = None;
        }
    }

    fn subscribe(&mut self, client: usize, name: &Arc<str>) {
        let connection = &mut self.clients[client].connection;
        let id = *connection.get_or_insert_with(|| {
            self.hub.open(ConnectionLimits {
                queue_bytes_max: QUEUE_BYTES_MAX,
                subscriptions_max: 3,
            })
        });
        let subscriptions = self.clients[client]
            .seen
            .values()
            .filter(|seen| seen.subscription.is_some())
            .count();
        let from = self.clients[client].seen.get(name);
        let from = from.and_then(|seen| seen.position);
        let must_recover = from.is_some_and(|from| self.must_recover(name, from));
        let member = Arc::clone(&self.clients[client].name);
        let seen = self.clients[client]
            .seen
            .entry(Arc::clone(name))
            .or_default();
        let member = Some(member);
        let mut effects = self.hub.subscribe(self.now_ms, (), id, name, from, member);
        let [((), Answer::Subscribed(answer))] = take(&mut effects.answers) else {
            panic!("not answered at once");
        };
        let answer = match answer {
            Err(Refusal::Subscribed) => return assert!(seen.subscription.is_some()),
            Err(Refusal::TooManySubscriptions(3)) => return assert_eq!(subscriptions, 3),
            other => other.expect("nothing else is wrong"),
        };
        assert!(seen.subscription.is_none() && subscriptions < 3);
        seen.subscription = Some(answer.subscription);
        seen.shown = true;
        seen.members = answer.members.into_iter().collect();
        assert_eq!(answer.recovered.is_some(), from.is_some());
        if answer.recovered == Some(true) {
            self.recovered += 1;
            let mut at = from.expect("it was asked for");
            for message in &answer.missed {
                at.offset += 1;
                assert_eq!(message.position, at, "a gap in what was missed");
                assert_eq!(self.log[&(Arc::clone(name), at)].1, message.data.to_vec());
            }
            assert_eq!(answer.position, at, "something was left out");
        } else {
            self.lost += usize::from(answer.recovered.is_some());
            assert!(!must_recover, "it could have been recovered");
            assert!(answer.missed.is_empty());
        }
        seen.position = Some(answer.position);
        self.act_on(effects);
    }

    /// Whether something was missed, and all of it within what the history promises to keep.
    fn must_recover(&self, name: &Arc<str>, from: Position) -> bool {
        let Some(last) = self.last.get(name) else {
            return false;
        };
        let missed = last.offset.saturating_sub(from.offset);
        let of = |offset| &self.log[&(Arc::clone(name), Position { offset, ..from })];
        from.epoch == last.epoch
            && (1..=8).contains(&missed)
            && (from.offset + 1..=last.offset).all(|offset| self.now_ms - of(offset).0 <= 400)
            && (from.offset + 1..=last.offset)
                .map(|offset| of(offset).1.len())
                .sum::<usize>()
                <= 160
    }

    fn unsubscribe(&mut self, client: usize, name: &Arc<str>) {
        let client = &mut self.clients[client];
        let Some(id) = client.connection else { return };
        let seen = client.seen.entry(Arc::clone(name)).or_default();
        let subscribed = seen.subscription.take().is_some();
        let (was, effects) = self.hub.unsubscribe(self.now_ms, id, name);
        assert_eq!(was, subscribed);
        self.act_on(effects);
    }

    fn show(&mut self, client: usize, name: &Arc<str>, shown: bool) {
        let client = &mut self.clients[client];
        let Some(id) = client.connection else { return };
        let member = shown.then(|| Arc::clone(&client.name));
        client.seen.entry(Arc::clone(name)).or_default().shown = shown;
        let effects = self.hub.set_member(self.now_ms, id, name, member);
        self.act_on(effects);
    }

    fn publish(&mut self, random: &mut Random, name: &Arc<str>) {
        let bytes = random.below(45) as usize;
        let data: Vec<u8> = (0..bytes).map(|_| random.below(256) as u8).collect();
        let key = (random.below(3) == 0).then(|| format!("key-{}", random.below(6)));
        let content = data.clone().into();
        let mut effects = self
            .hub
            .publish(self.now_ms, (), name, content, key.as_deref());
        let [((), Answer::Published(published))] = take(&mut effects.answers) else {
            panic!("not answered at once");
        };
        let key = key.map(|key| (Arc::clone(name), key));
        let before = key.as_ref().and_then(|key| self.answers.get(key));
        let is_known = before.is_some_and(|(at_ms, _)| self.now_ms - at_ms <= 300);
        let published = match published {
            Err(Refusal::TooLarge {
                bytes: said,
                max: 40,
            }) => {
                return assert!(said == bytes && bytes > 40);
            }
            other => other.expect("nothing else is wrong"),
        };
        assert!(bytes <= 40);
        assert_eq!(published.repeated, is_known);
        if published.repeated {
            let (_, before) = self.answers[&key.expect("only then")];
            return assert_eq!(published.position, before);
        }
        if let Some(key) = key {
            self.answers.insert(key, (self.now_ms, published.position));
        }
        let at = (Arc::clone(name), published.position);
        self.last.insert(at.0.clone(), at.1);
        let new = self.log.insert(at, (self.now_ms, data));
        assert!(new.is_none(), "a position was given out twice");
        self.act_on(effects);
    }

    /// A client reads what waits for it, or some of it.
    fn read(&mut self, client: usize, items: usize) {
        let client = &mut self.clients[client];
        let Some(id) = client.connection else { return };
        let (bytes, _) = self.hub.backlog(id).expect("it is open");
        assert!(bytes <= QUEUE_BYTES_MAX);
        for _ in 0..items {
            let Some(item) = self.hub.next(id) else {
                return;
            };
            let of = match &item {
                Item::Message(of, _)
                | Item::Reply(QueueItem::Notice(Notice::Presence(of, _)), _) => *of,
                Item::Reply(..) => panic!("the stream was never reset"),
            };
            // What waited when it unsubscribed is not meant for it any more.
            let mine = client
                .seen
                .iter_mut()
                .find(|(_, seen)| seen.subscription == Some(of));
            let Some((name, seen)) = mine else { continue };
            match item {
                Item::Message(_, message) => {
                    let before = seen.position.expect("a subscription has one");
                    let now = message.position;
                    assert_eq!(self.log[&(Arc::clone(name), now)].1, message.data.to_vec());
                    assert_eq!(now.epoch, before.epoch);
                    if name.starts_with("all:") {
                        assert_eq!(now.offset, before.offset + 1, "{name}");
                    }
                    assert!(now.offset > before.offset, "{name}");
                    seen.position = Some(now);
                }
                Item::Reply(QueueItem::Notice(Notice::Presence(_, Change::Joined(who))), _) => {
                    assert!(seen.members.insert(who), "who is there cannot join");
                }
                Item::Reply(QueueItem::Notice(Notice::Presence(_, Change::Left(who))), _) => {
                    assert!(seen.members.remove(&who), "who is not there cannot leave");
                }
                Item::Reply(..) => unreachable!(),
            }
        }
    }

    /// Everybody reads everything, and time passes until nobody is leaving any more.
    fn settle(&mut self) {
        for client in 0..CLIENTS {
            self.read(client, usize::MAX);
        }
        self.now_ms += LEAVE_AFTER_MS;
        let effects = self.hub.tick(self.now_ms);
        self.act_on(effects);
        for client in 0..CLIENTS {
            self.read(client, usize::MAX);
        }
        for name in CHANNELS.map(Arc::<str>::from) {
            let on_it = |client: &&Client| {
                client
                    .seen
                    .get(&name)
                    .is_some_and(|seen| seen.subscription.is_some())
            };
            let shown = |client: &&Client| client.seen[&name].shown;
            let there = self.clients.iter().filter(on_it).filter(shown);
            let there: BTreeSet<_> = there.map(|client| Arc::clone(&client.name)).collect();
            for client in self.clients.iter().filter(on_it) {
                assert_eq!(client.seen[&name].members, there, "{name}");
            }
        }
    }
}

/// The only answer; fails when there is none.
fn take<T>(answers: &mut Vec<T>) -> [T; 1] {
    std::mem::take(answers)
        .try_into()
        .unwrap_or_else(|_| panic!("not one answer"))
}

fn run(number: u64) -> (usize, usize) {
    let mut random = Random(number);
    let mut model = Model::new();
    let names = CHANNELS.map(Arc::<str>::from);
    for step in 0..STEPS {
        let client = random.below(CLIENTS as u64) as usize;
        let name = &names[random.below(names.len() as u64) as usize];
        match random.below(13) {
            0..=1 => model.subscribe(client, name),
            2 => model.unsubscribe(client, name),
            3 if random.below(3) == 0 => model.lose(client),
            4..=7 => model.publish(&mut random, name),
            8 => {
                model.now_ms += random.below(60);
                let effects = model.hub.tick(model.now_ms);
                model.act_on(effects);
            }
            9 => model.show(client, name, random.below(2) == 0),
            _ => model.read(client, random.below(6) as usize),
        }
        if step % 100 == 99 {
            model.settle();
        }
    }
    // When all are gone, nothing is left.
    (0..CLIENTS).for_each(|client| model.lose(client));
    model.now_ms += 20_000;
    model.hub.tick(model.now_ms);
    assert_eq!(model.hub.counts(), (0, 0));
    (model.recovered, model.lost)
}

#[test]
fn what_recovered_promises_is_kept_whatever_happens() {
    let (mut recovered, mut lost) = (0, 0);
    for number in 0..RUNS {
        let ran = std::panic::catch_unwind(|| run(number));
        let (some, others) = ran.unwrap_or_else(|_| panic!("random run {number}"));
        (recovered, lost) = (recovered + some, lost + others);
    }
    // Both happen, and often: otherwise this shows nothing.
    assert!(recovered > 1_000 && lost > 1_000, "{recovered} {lost}");
}
