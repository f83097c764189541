//! Events that happen at random.

use super::{CHANNELS, CLIENTS, PLACES, Ticket, Weather, World, pair};
use crate::truth::Publication;
use protoplex_channels::{Child, ConnectionLimits, Published, Refusal, Subscribed};
use std::sync::Arc;

const QUEUE_BYTES_MAX: usize = 4_000;
const SUBSCRIPTIONS_MAX: usize = 4;

impl World {
    pub fn step(&mut self) {
        let client = self.random.of(CLIENTS);
        let name: Arc<str> = CHANNELS[self.random.of(CHANNELS.len())].into();
        match self.random.below(100) {
            0..=11 => self.subscribe(client, &name),
            12..=13 => self.unsubscribe(client, &name),
            14 => self.hide(client, &name),
            15..=16 => self.lose(client),
            17..=36 => self.publish(client, &name),
            37..=38 => self.ask_members(&name),
            39..=52 => {
                let items = self.random.of(12);
                self.read(client, items);
            }
            53..=56 => {
                let calm = self.weather == Weather::Calm;
                self.now_ms += self.random.below(if calm { 100 } else { 500 });
                self.tick_all();
            }
            57..=60 => {
                let child = self.any_child();
                if self
                    .deaf
                    .get(&child)
                    .is_none_or(|until| *until <= self.now_ms)
                {
                    self.learn(child);
                }
            }
            61..=62 => {
                let [a, b] = [self.any_child(), self.any_child()];
                self.unlink(a, b);
            }
            63 => self.move_channels(),
            64 => self.drain(),
            65 if self.weather == Weather::Wild => self.disaster(),
            _ => self.deliver_some(),
        }
        self.stop_drained();
    }

    pub fn any_child(&mut self) -> Child {
        self.places[self.random.of(PLACES)]
    }

    fn ticket(&mut self, child: Child, ticket: Ticket) -> u64 {
        self.tickets_ever += 1;
        self.tickets.insert(self.tickets_ever, (child, ticket));
        self.tickets_ever
    }

    pub fn tick_all(&mut self) {
        for child in self.places {
            self.at(child, |mesh, now_ms| mesh.tick(now_ms));
        }
    }

    pub fn deliver_some(&mut self) {
        let waiting: Vec<_> = self.waiting().into_iter().collect();
        if waiting.is_empty() {
            return;
        }
        let (child, from) = waiting[self.random.of(waiting.len())];
        for _ in 0..1 + self.random.below(8) {
            self.deliver(child, from);
        }
        self.now_ms += self.random.below(5);
    }

    pub fn subscribe(&mut self, client: usize, name: &Arc<str>) {
        if self.clients[client].at.is_none() {
            // Wherever it is sent.
            let child = self.any_child();
            let process = self.processes.get_mut(&child).expect("it lives");
            let id = process.mesh.open(ConnectionLimits {
                queue_bytes_max: QUEUE_BYTES_MAX,
                subscriptions_max: SUBSCRIPTIONS_MAX,
            });
            self.clients[client].at = Some((child, id));
        }
        let (child, id) = self.clients[client].at.expect("it was just opened");
        let ticket = self.ticket(child, Ticket::Subscribe(client, Arc::clone(name)));
        let view = self.clients[client].views.entry(Arc::clone(name));
        let view = view.or_default();
        let from = view.position;
        if view.subscription.is_none() && view.ticket.is_none() {
            view.ticket = Some(ticket);
            view.hides = false;
        }
        let member = Arc::clone(&self.clients[client].name);
        self.at(child, |mesh, now_ms| {
            mesh.subscribe(now_ms, ticket, id, name, from, Some(member))
        });
    }

    pub fn subscribed(
        &mut self,
        client: usize,
        name: Arc<str>,
        ticket: u64,
        answer: Result<Subscribed, Refusal>,
    ) {
        let view = self.clients[client].views.get_mut(&name);
        let view = view.expect("it was asked for");
        match answer {
            Ok(answer) => {
                assert_eq!(view.ticket, Some(ticket));
                let from = answer.recovered.and(view.position);
                let (child, id) = self.clients[client].at.expect("else it is refused");
                let before = (Arc::clone(&name), from, answer);
                self.clients[client].answers.insert(ticket, before);
                self.at(child, |mesh, _| mesh.reply(id, ticket, 8));
            }
            Err(Refusal::Subscribed) => {
                assert!(view.subscription.is_some() || view.ticket.is_some_and(|t| t != ticket));
            }
            Err(refusal) => {
                if view.ticket == Some(ticket) {
                    view.ticket = None;
                }
                match refusal {
                    Refusal::TooManySubscriptions(SUBSCRIPTIONS_MAX) => {}
                    Refusal::NoConnection | Refusal::Unsubscribed => {}
                    Refusal::Unavailable => self.unavailable(),
                    wrong => panic!("{wrong:?}"),
                }
            }
        }
    }

    pub fn unsubscribe(&mut self, client: usize, name: &Arc<str>) {
        let Some((child, id)) = self.clients[client].at else {
            return;
        };
        let view = self.clients[client].views.entry(Arc::clone(name));
        let view = view.or_default();
        let subscribed = view.subscription.take().is_some() | view.ticket.take().is_some();
        let mut was = false;
        self.at(child, |mesh, now_ms| {
            let (known, effects) = mesh.unsubscribe(now_ms, id, name);
            was = known;
            effects
        });
        assert_eq!(was, subscribed);
    }

    /// A client is not seen by others any more, or is again.
    fn hide(&mut self, client: usize, name: &Arc<str>) {
        let Some((child, id)) = self.clients[client].at else {
            return;
        };
        let member = Arc::clone(&self.clients[client].name);
        let view = self.clients[client].views.entry(Arc::clone(name));
        let view = view.or_default();
        view.hides = !view.hides;
        let member = Some(member).filter(|_| !view.hides);
        self.at(child, |mesh, now_ms| {
            mesh.set_member(now_ms, id, name, member)
        });
    }

    pub fn lose(&mut self, client: usize) {
        if let Some((child, id)) = self.clients[client].at {
            self.clients[client].disconnected();
            self.at(child, |mesh, now_ms| mesh.close(now_ms, id));
        }
    }

    pub fn read(&mut self, client: usize, items: usize) {
        let Some((child, id)) = self.clients[client].at else {
            return;
        };
        let Some(process) = self.processes.get_mut(&child) else {
            return;
        };
        let (bytes, _) = process.mesh.backlog(id).expect("it is open");
        assert!(bytes <= QUEUE_BYTES_MAX);
        for _ in 0..items {
            let Some(item) = process.mesh.next(id) else {
                return;
            };
            let calm = self.weather == Weather::Calm;
            self.clients[client].reads(&mut self.truth, &mut self.seen, calm, item);
        }
    }

    fn publish(&mut self, client: usize, name: &Arc<str>) {
        let child = match self.clients[client].at {
            Some((child, _)) => child,
            None => self.any_child(),
        };
        self.contents_ever += 1;
        let content = self.contents_ever;
        let key = self.random.one_in(3);
        let key = key.then(|| format!("key-{}", self.random.below(12)));
        let mut data = content.to_be_bytes().to_vec();
        data.resize(8 + self.random.of(55), 7);
        let publication = Publication {
            channel: Arc::clone(name),
            content,
            key: key.clone(),
            at_ms: self.now_ms,
        };
        self.truth.sent(&publication);
        let too_large = data.len() > 60;
        let ticket = self.ticket(child, Ticket::Publish(publication));
        self.at(child, |mesh, now_ms| {
            mesh.publish(now_ms, ticket, name, data.into(), key.as_deref())
        });
        assert!(!too_large || !self.tickets.contains_key(&ticket));
    }

    pub fn published(&mut self, publication: Publication, answer: Result<Published, Refusal>) {
        match answer {
            Ok(answer) => {
                self.seen.published += 1;
                self.seen.repeated += usize::from(answer.repeated);
                self.truth.acknowledged(self.now_ms, publication, answer);
            }
            Err(Refusal::TooLarge { .. }) => {}
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Unavailable);
                self.unavailable();
            }
        }
    }

    /// Somebody was refused because an owner could not be asked in time.
    pub fn unavailable(&mut self) {
        self.seen.unavailable += 1;
        assert_ne!(self.weather, Weather::Calm, "all can be had");
    }

    fn ask_members(&mut self, name: &Arc<str>) {
        let child = self.any_child();
        let ticket = self.ticket(child, Ticket::Members(Arc::clone(name)));
        self.at(child, |mesh, now_ms| mesh.members(now_ms, ticket, name));
    }

    /// A new directory, in which some channels are elsewhere.
    fn move_channels(&mut self) {
        let mut directory = self.directories[self.directories.len() - 1].clone();
        for _ in 0..1 + self.random.below(3) {
            let to = self.any_child();
            if !self.processes[&to].drains {
                directory.insert(CHANNELS[self.random.of(CHANNELS.len())], to);
            }
        }
        self.directories.push(directory);
    }

    /// A new directory, in which a child has nothing; when it has given everything away, it stops.
    fn drain(&mut self) {
        let child = self.any_child();
        let drains = self.processes.values().filter(|process| process.drains);
        if self.random.one_in(2) || drains.count() > 0 {
            return;
        }
        self.processes.get_mut(&child).expect("it lives").drains = true;
        self.give_away(child);
    }

    /// A new directory, in which that child has nothing.
    fn give_away(&mut self, child: Child) {
        let mut directory = self.directories[self.directories.len() - 1].clone();
        for owner in directory.values_mut().filter(|owner| **owner == child) {
            let drains = |other: &Child| self.processes[other].drains;
            let others = self.places.into_iter();
            let others = others.filter(|other| *other != child && !drains(other));
            let others: Vec<_> = others.collect();
            *owner = others[self.random.of(others.len())];
        }
        self.directories.push(directory);
    }

    /// A child that drains stops when that is safe: all know the directory, and nothing is on its way to it.
    fn stop_drained(&mut self) {
        let Some(place) = (0..PLACES).find(|place| self.processes[&self.places[*place]].drains)
        else {
            return;
        };
        let child = self.places[place];
        let newest = self.directories.len() - 1;
        let mut processes = self.processes.values();
        let ready =
            processes.all(|process| process.version == newest && process.mesh.handing_over() == 0);
        let waits = self.waiting().into_iter().any(|(to, _)| to == child);
        if ready && !waits {
            self.seen.drained += 1;
            self.stop(child);
            self.start(place);
        }
    }

    fn disaster(&mut self) {
        let child = self.any_child();
        let until_ms = self.now_ms + self.random.below(20_000);
        match self.random.below(3) {
            0 => {
                // Somebody else takes its place, or its channels.
                let place = self.places.iter().position(|at| *at == child);
                let place = place.expect("it is somewhere");
                self.stop(child);
                self.start(place);
                let new = self.places[place];
                let mut directory = self.directories[self.directories.len() - 1].clone();
                for owner in directory.values_mut().filter(|owner| **owner == child) {
                    *owner = new;
                }
                self.directories.push(directory);
                if self.random.one_in(2) {
                    self.give_away(new);
                }
            }
            1 => {
                self.deaf.insert(child, until_ms);
            }
            _ => {
                let other = self.any_child();
                self.apart.insert(pair(child, other), until_ms);
                self.unlink(child, other);
            }
        }
    }
}
