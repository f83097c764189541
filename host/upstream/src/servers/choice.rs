//! Which server a request goes to: the least loaded, or the one of its key.

use super::{
    Servers,
    hash::mixed,
    server::{UpstreamServer, WEIGHT_BITS, WEIGHT_FULL},
};
use std::sync::atomic::Ordering::Relaxed;

/// Servers that a request can remember to have tried, as bits of `tried`. Those beyond are never taken for tried.
const TRIED_MAX: usize = u64::BITS as usize;

/// Step of splitmix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Servers {
    /// Finds the server with the fewest requests for its share. A server in its slow start takes part in that share of
    /// the picks, so that it also starts slowly where nobody has anything in flight.
    pub(super) fn least_loaded(&self, tried: u64, now_ms: u64) -> Option<usize> {
        let count = self.servers.len();
        let start = self.turn.load(Relaxed) % count.max(1);
        let found = self.best((start..count).chain(0..start), tried, now_ms, |server| {
            let in_flight = u64::from(server.in_flight.load(Relaxed));
            let weight = server.weight(now_ms, self.upstream.slow_start_ms);
            if weight == WEIGHT_FULL {
                return (false, in_flight << WEIGHT_BITS);
            }
            let held_back = self.roll() >= weight;
            (held_back, (in_flight << (2 * WEIGHT_BITS)) / weight)
        });
        self.turn
            .store(found.map_or(start, |index| index + 1), Relaxed);
        found
    }

    /// Finds the server with the highest score for a key (rendezvous hashing): when a server goes, only its keys move.
    /// One in its slow start gets its keys back one after another, each once.
    pub(super) fn by_key(&self, key: u64, tried: u64, now_ms: u64) -> Option<usize> {
        self.best(0..self.servers.len(), tried, now_ms, |server| {
            let score = mixed(key ^ server.hash);
            let weight = server.weight(now_ms, self.upstream.slow_start_ms);
            let held_back = score % WEIGHT_FULL >= weight;
            (held_back, !score >> WEIGHT_BITS)
        })
    }

    /// Finds the lowest rank among servers with room: one that was not tried before one that was, one that is not held
    /// back before one that is, and the first of equals. Servers that are out are taken only where all are.
    fn best(
        &self,
        order: impl Iterator<Item = usize> + Clone,
        tried: u64,
        now_ms: u64,
        rank: impl Fn(&UpstreamServer) -> (bool, u64),
    ) -> Option<usize> {
        let look = |all: bool| {
            let (mut best, mut seen) = (None, false);
            for index in order.clone() {
                let server = &*self.servers[index];
                if !all && server.is_out(now_ms) {
                    continue;
                }
                seen = true;
                let in_flight = server.in_flight.load(Relaxed);
                if self.in_flight_max != 0 && in_flight >= self.in_flight_max {
                    continue;
                }
                let again = index < TRIED_MAX && (tried >> index) & 1 == 1;
                let (held_back, rank) = rank(server);
                let rank = (again, held_back, rank);
                if best.is_none_or(|(lowest, _)| rank < lowest) {
                    best = Some((rank, index));
                }
            }
            (best.map(|(_, index)| index), seen)
        };
        match look(false) {
            (found, true) => found,
            (_, false) => look(true).0,
        }
    }

    /// Returns a random number below [`WEIGHT_FULL`].
    fn roll(&self) -> u64 {
        mixed(self.dice.fetch_add(STEP, Relaxed)) % WEIGHT_FULL
    }
}
