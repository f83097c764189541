//! Facts that have to hold when nothing happens any more.

use super::{CHANNELS, CLIENTS, EXPIRES_AFTER_MS, LEAVE_AFTER_MS, Ticket, Weather, World};
use protoplex_channels::limits::{ANSWER_DEADLINE_MS, HANDOVER_DEADLINE_MS, REMEMBERED_MS};
use std::{collections::BTreeSet, sync::Arc};

impl World {
    /// Everybody reaches everybody, hears everything and reads everything, for longer than anything may take.
    pub fn settle(&mut self) {
        self.apart.clear();
        self.deaf.clear();
        for process in self.processes.values_mut() {
            process.drains = false;
        }
        self.pass(
            ANSWER_DEADLINE_MS + EXPIRES_AFTER_MS + LEAVE_AFTER_MS + 1_000,
            100,
        );
    }

    fn pass(&mut self, time_ms: u64, step_ms: u64) {
        for _ in 0..time_ms / step_ms {
            for child in self.places {
                self.learn(child);
            }
            self.tick_all();
            // What has come by now; what is sent while it is looked at comes next time.
            for _ in 0..8 {
                for (child, from) in self.waiting() {
                    while self.deliver(child, from) {}
                }
            }
            (0..CLIENTS).for_each(|client| self.read(client, usize::MAX));
            self.now_ms += step_ms;
        }
    }

    pub fn check_quiet(&mut self) {
        let open = self.tickets.values().map(|(_, ticket)| match ticket {
            Ticket::Subscribe(_, name) | Ticket::Members(name) => name,
            Ticket::Publish(publication) => &publication.channel,
        });
        assert_eq!(open.count(), 0, "a ticket has no answer");
        for process in self.processes.values() {
            assert_eq!(process.mesh.handing_over(), 0);
            assert_eq!(process.mesh.waiting_bytes(), 0);
        }
        // One who has missed nothing and asks now sees what all have seen.
        for name in CHANNELS.map(Arc::<str>::from) {
            self.lose(0);
            self.subscribe(0, &name);
            // Where a child died that may have had it, it is waited for.
            let calm = self.weather == Weather::Calm;
            self.pass(
                if calm {
                    300
                } else {
                    HANDOVER_DEADLINE_MS + 300
                },
                100,
            );
            assert!(self.clients[0].is_on(&name), "{name} cannot be had");
            let mut there = BTreeSet::new();
            for client in self.clients.iter().filter(|client| client.is_on(&name)) {
                if !client.views[&name].hides {
                    there.insert(Arc::clone(&client.name));
                }
            }
            let newest = self.clients[0].views[&name].position;
            let newest = newest.expect("it is subscribed");
            for client in self.clients.iter().filter(|client| client.is_on(&name)) {
                let view = &client.views[&name];
                assert_eq!(view.members, there, "{name}: members");
                let position = view.position.expect("it is subscribed");
                assert_eq!(position.epoch, newest.epoch, "{name}: two streams");
                if name.starts_with("all:") {
                    assert_eq!(position, newest, "{name}: not all has come");
                }
            }
            for at in self.truth.of(&name) {
                let lost = at.epoch == newest.epoch && at.offset > newest.offset;
                assert!(!lost, "{name}: {at} was acknowledged, and is not there");
                let other = self.weather == Weather::Calm && at.epoch != newest.epoch;
                assert!(!other, "{name}: {at} was of a stream that is no more");
            }
            self.lose(0);
            self.pass(LEAVE_AFTER_MS + 500, 100);
        }
    }

    /// When all are gone, nothing is left.
    pub fn end(&mut self) {
        (0..CLIENTS).for_each(|client| self.lose(client));
        // The history of calm weather never ends.
        if self.weather == Weather::Wild {
            self.pass(2 * REMEMBERED_MS, 1_000);
            for process in self.processes.values() {
                assert_eq!(process.mesh.counts(), (0, 0));
            }
        }
    }
}
