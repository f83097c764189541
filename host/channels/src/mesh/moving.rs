//! Channels that move, because the directory says so: the old owner offers them, and the new one asks for them.

use super::{Effects, Mesh, held::HeldFrame, offers::Offer};
use crate::{
    Child, Frame,
    channel::{Channel, Role},
    directory::Given,
    frame::{Body, Handover},
};
use std::sync::Arc;

impl<T: Copy, R> Mesh<T, R> {
    /// A directory: whose each channel is, by its name. One older than that before is ignored; of the same version it
    /// may say that another process has taken a child's place. What owners were before is remembered for a while, so
    /// that channels are taken over from them: a child that is to own something should have been given a directory
    /// before the one that says so.
    pub fn place(
        &mut self,
        now_ms: u64,
        version: u64,
        owner: impl Fn(&str) -> Option<Child> + Send + 'static,
    ) -> Effects<T> {
        let owner = Box::new(owner);
        if self.context.directory.place(now_ms, version, owner) {
            let names: Vec<_> = self.channels.keys().cloned().collect();
            for name in names {
                self.place_channel(now_ms, &name);
            }
            self.offer(now_ms);
            self.process_held(now_ms);
        }
        self.effects(now_ms)
    }

    /// Channels that have left this child and have not been taken yet. After a directory that gives it none, it may stop
    /// when this is 0.
    pub fn handing_over(&self) -> usize {
        self.offers.len()
    }

    /// Makes of a channel what the directory says.
    pub(super) fn place_channel(&mut self, now_ms: u64, name: &Arc<str>) {
        let owner = self.context.directory.owner(name);
        let (Some(channel), Some(owner)) = (self.channels.get_mut(name), owner) else {
            return; // Whoever has it keeps it until there is somebody else.
        };
        let ours = owner == self.context.directory.me;
        match channel.role {
            Role::Owner(_) if ours => {}
            Role::Owner(_) => {
                let version = self.context.directory.version;
                self.hand_over(now_ms, name, (owner, version));
            }
            Role::Away(_) if ours => {
                let offered = self.offers.get(name).is_some();
                channel.claim(&mut self.context, now_ms, offered);
                self.take_back(now_ms, name);
            }
            Role::Pulling(_) if ours => {}
            Role::Away(_) | Role::Pulling(_) => channel.owned_by(&mut self.context, now_ms, owner),
        }
    }

    fn hand_over(&mut self, now_ms: u64, name: &Arc<str>, (to, version): (Child, u64)) {
        let channel = self.channels.get_mut(name);
        let handover = channel.and_then(|channel| channel.hand_over(&mut self.context, now_ms));
        let Some(handover) = handover else { return };
        let given = Given {
            to,
            version,
            at_ms: now_ms,
            from: None,
        };
        let directory = &mut self.context.directory;
        directory.give(name, given);
        directory.has(now_ms, name, (handover.position.epoch, handover.moves));
        let offer = Offer {
            to,
            handover,
            since_ms: now_ms,
            sent: false,
            on_link: false,
        };
        self.offers.insert(name, offer);
        self.offer_one(now_ms, name);
        if let Some(channel) = self.channels.get_mut(name) {
            channel.ask_at_once(&mut self.context, now_ms);
        }
    }

    /// Offers what nobody has taken yet.
    pub(super) fn offer(&mut self, now_ms: u64) {
        self.offers.trim(now_ms);
        for name in self.offers.channels() {
            if !self.take_back(now_ms, &name) {
                self.offer_one(now_ms, &name);
            }
        }
    }

    fn offer_one(&mut self, now_ms: u64, name: &Arc<str>) {
        let Some(offer) = self.offers.get(name) else {
            return;
        };
        let owner = self.context.directory.owner(name);
        if let Some(owner) = owner.filter(|_| !offer.sent) {
            offer.to = owner;
        }
        if !offer.on_link && self.context.links.up(now_ms, offer.to) {
            (offer.sent, offer.on_link) = (true, true);
            let handover = Box::new(offer.handover.clone());
            self.context.send(offer.to, name, Body::Handover(handover));
        }
    }

    /// Takes back a channel that nobody can have taken, if the directory says that it is ours.
    fn take_back(&mut self, now_ms: u64, name: &Arc<str>) -> bool {
        let ours = self.context.directory.owner(name) == Some(self.context.directory.me);
        let Some(offer) = self.offers.get(name) else {
            return false;
        };
        if !ours || offer.sent {
            return false;
        }
        // Where it began anew meanwhile, what was before is no more.
        let offer = self.offers.remove(name);
        offer.is_none_or(|offer| self.install(now_ms, name, offer.handover))
    }

    fn install(&mut self, now_ms: u64, name: &Arc<str>, handover: Handover) -> bool {
        self.offers.remove(name);
        let directory = &mut self.context.directory;
        directory.not_given(name);
        directory.has(now_ms, name, (handover.position.epoch, handover.moves));
        if !self.channels.contains_key(name) {
            let Ok(rules) = self.context.rules.of(name) else {
                return false;
            };
            let channel = Channel::new(Arc::clone(name), rules);
            self.channels.insert(Arc::clone(name), channel);
        }
        if let Some(channel) = self.channels.get_mut(name) {
            channel.take(&mut self.context, now_ms, handover);
        }
        true
    }

    /// Owners speak of a channel that moves.
    pub(super) fn moves(&mut self, now_ms: u64, since_ms: u64, child: Child, frame: Frame) {
        let name = Arc::clone(&frame.channel);
        match frame.body {
            Body::Pull { versions } => {
                self.pulled(now_ms, child, &name, (frame.version, versions));
            }
            Body::Nothing if self.offers.get(&name).is_none() => {
                if let Some(channel) = self.channels.get_mut(&name) {
                    channel.nothing(&mut self.context, now_ms, child);
                }
            }
            Body::Handover(_) => self.handed(now_ms, since_ms, child, frame),
            Body::Taken { epoch, moves } if self.is_offered(child, &name, (epoch, moves)) => {
                self.offers.remove(&name);
            }
            Body::Declined { epoch, moves } if self.is_offered(child, &name, (epoch, moves)) => {
                self.context.directory.not_given(&name);
                if let Some(offer) = self.offers.get(&name) {
                    (offer.sent, offer.on_link) = (false, false);
                }
                // To whom it was declined for may not be known here yet: the next tick tries again.
                let to = self.context.directory.owner(&name);
                if !self.take_back(now_ms, &name) && to != Some(child) {
                    self.offer_one(now_ms, &name);
                }
            }
            _ => {}
        }
    }

    fn is_offered(&mut self, to: Child, name: &str, state: (u64, u64)) -> bool {
        let offer = self.offers.get(name).filter(|offer| offer.to == to);
        offer.is_some_and(|offer| (offer.handover.position.epoch, offer.handover.moves) == state)
    }

    /// A child says that a channel is its own, by a directory of that version.
    fn pulled(
        &mut self,
        now_ms: u64,
        child: Child,
        name: &Arc<str>,
        (version, known): (u64, Vec<u64>),
    ) {
        let ahead = version > self.context.directory.version;
        let owner = self.context.directory.owner(name);
        let ours = owner == Some(self.context.directory.me);
        let has = self.channels.get(name).is_some_and(Channel::is_owned);
        if has && ahead {
            return self.hand_over(now_ms, name, (child, version));
        }
        let offered = self.offers.get(name).map(|offer| offer.to);
        let directory = &self.context.directory;
        let from = offered
            .or_else(|| directory.given_to_other(name, child))
            .or_else(|| directory.between(name, child, &known));
        let elsewhere = has || (ours && !ahead) || from.is_some();
        if ahead {
            // From now on it is not ours, whatever was believed here, so that it cannot begin here as well.
            let given = Given {
                to: child,
                version,
                at_ms: now_ms,
                from,
            };
            self.context.directory.give(name, given);
            self.place_channel(now_ms, name);
            self.offer_one(now_ms, name);
        }
        let answer = match elsewhere {
            true => Body::Elsewhere,
            false => Body::Nothing,
        };
        self.context.send(child, name, answer);
    }

    /// A channel comes.
    fn handed(&mut self, now_ms: u64, since_ms: u64, child: Child, frame: Frame) {
        let Body::Handover(handover) = &frame.body else {
            return;
        };
        let name = Arc::clone(&frame.channel);
        let (epoch, moves) = (handover.position.epoch, handover.moves);
        let ours = self.context.directory.owner(&name) == Some(self.context.directory.me);
        let had = self.has_had(&name, (epoch, moves));
        let takes = ours && self.context.rules.of(&name).is_ok();
        let waits = frame.version > self.context.directory.version && self.held.has_room(&frame);
        if !had && !takes && waits {
            return self.held.push(HeldFrame {
                since_ms,
                child,
                frame,
            });
        }
        let answer = if had || takes {
            Body::Taken { epoch, moves }
        } else {
            Body::Declined { epoch, moves }
        };
        if !had
            && takes
            && let Body::Handover(handover) = frame.body
        {
            self.install(now_ms, &name, *handover);
        } else if !had {
            // Requests for the channel have to wait for it.
            self.context.directory.seen(now_ms, &name, child);
        }
        self.context.send(child, &name, answer);
    }

    /// Whether that state of a channel was taken before, or comes too late to be taken.
    fn has_had(&self, name: &str, state: (u64, u64)) -> bool {
        let is_here = self.channels.get(name).is_some_and(Channel::is_owned);
        is_here || self.context.directory.has_had(name, state)
    }
}
