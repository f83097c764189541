//! What clients hold that is no connection of theirs to this process: sessions that go on between requests, streams that
//! share a connection, and what a node of the fleet relays. Bounded as connections are, by number and by address.

use crate::{
    Limits,
    addresses::{Addresses, Seat},
};
use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{self, Relaxed},
        },
    },
    time::{Duration, Instant},
};

/// Everything that clients hold of one kind in a child.
pub struct Shares {
    addresses: Addresses,
    held: Arc<AtomicUsize>,
    held_max: usize,
    /// Of one address.
    address_held_max: u32,
    messages: Rate,
    started: Instant,
}

/// One of them; its drop makes room.
pub struct Share {
    seat: Option<Seat>,
    is_limited: bool,
    held: Arc<AtomicUsize>,
}

/// Why there is no room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The address holds as many as it may.
    Address,
    /// All of them together are as many as the child may hold.
    Child,
}

/// A rate, and how far ahead of it somebody may be. The level is kept beside what is limited, in one word: the time at
/// which the bucket is full again (GCRA, ITU-T I.371).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval_ns: u64,
    burst_ns: u64,
}

impl Rate {
    /// So many a second, and so many ahead of that.
    pub fn new(per_s: u32, burst: u32) -> Self {
        let interval_ns = 1_000_000_000 / u64::from(per_s.max(1));
        Self {
            interval_ns,
            burst_ns: interval_ns * u64::from(burst.max(1)),
        }
    }

    /// Takes what was used already, however much that is, and says how long to wait before more is used.
    pub fn charge(&self, full_at_ns: &AtomicU64, now_ns: u64, cost: u32) -> Duration {
        let cost_ns = self.interval_ns.saturating_mul(cost.into());
        let charged = |full_at: u64| Some(full_at.max(now_ns).saturating_add(cost_ns));
        let before = full_at_ns.fetch_update(Relaxed, Relaxed, charged);
        // The update never fails: it always has a new value.
        let before = before.unwrap_or_else(|level| level);
        let full_at = before.max(now_ns).saturating_add(cost_ns);
        Duration::from_nanos(full_at.saturating_sub(now_ns.saturating_add(self.burst_ns)))
    }
}

impl Shares {
    /// With the limits of connections.
    pub fn new(limits: &Limits) -> Self {
        Self {
            addresses: Addresses::new(limits),
            held: Arc::default(),
            held_max: limits.connections_max,
            address_held_max: limits.address_connections_max,
            messages: Rate::new(limits.address_messages_per_s, limits.address_burst_messages),
            started: Instant::now(),
        }
    }

    /// Names the nodes of the fleet, whose own requests are under no limit by address.
    pub fn set_fleet(&self, nodes: HashSet<IpAddr>) {
        self.addresses.set_fleet(nodes);
    }

    /// One more for an address, which may hold `address_max` where that is less than what addresses may hold anyway.
    ///
    /// # Errors
    /// See [`Full`].
    pub fn take(&self, address: IpAddr, address_max: u32) -> Result<Share, Full> {
        let seat = self
            .addresses
            .sit_within(address, address_max.min(self.address_held_max));
        let seat = seat.map_err(|_| Full::Address)?;
        let before = self.held.fetch_add(1, Relaxed);
        // Made now, so that it is given back where it is one too many.
        let share = Share {
            is_limited: seat.is_some() || !self.addresses.is_exempt(address),
            seat,
            held: Arc::clone(&self.held),
        };
        if before >= self.held_max {
            return Err(Full::Child);
        }
        Ok(share)
    }

    /// Nanoseconds since this was made: the clock of rates.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes messages that came from the holder of a share, as one of its address and by a rate of its own, and says how
    /// long to wait before more of it is read. No time where its address is under no limit.
    pub fn charge(&self, share: &Share, own: (&Rate, &AtomicU64), cost: u32) -> Duration {
        if !share.is_limited {
            return Duration::ZERO;
        }
        let now_ns = self.now_ns();
        let (rate, full_at_ns) = own;
        let alone = rate.charge(full_at_ns, now_ns, cost);
        let together = share.seat.as_ref().map_or(Duration::ZERO, |seat| {
            let level = seat.account().messages_full_at_ns();
            self.messages.charge(level, now_ns, cost)
        });
        alone.max(together)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(change: impl FnOnce(&mut Limits)) -> Shares {
        let mut limits = Limits::default();
        change(&mut limits);
        Shares::new(&limits)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_a_share_and_all_together_have_room_for_so_many() {
        let shares = shares(|limits| {
            (limits.connections_max, limits.address_connections_max) = (3, 2);
        });
        let take = |address| shares.take(ip(address), u32::MAX);
        let first = take("192.0.2.1").ok();
        let second = take("192.0.2.1").ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(take("192.0.2.1").err(), Some(Full::Address));
        assert_eq!(shares.take(ip("192.0.2.2"), 0).err(), Some(Full::Address));
        let third = take("192.0.2.2").ok();
        assert!(third.is_some());
        assert_eq!(take("192.0.2.3").err(), Some(Full::Child));
        // This machine has no share, but is part of all together.
        assert_eq!(take("127.0.0.1").err(), Some(Full::Child));
        drop(first);
        assert!(take("127.0.0.1").is_ok());
        // What was refused is not held.
        assert!(take("192.0.2.1").is_ok());
    }

    #[test]
    fn who_sends_more_than_its_rate_waits_and_a_burst_does_not() {
        let rate = Rate::new(10, 5);
        let level = AtomicU64::new(0);
        for _ in 0..5 {
            assert_eq!(rate.charge(&level, 1_000, 1), Duration::ZERO);
        }
        assert_eq!(rate.charge(&level, 1_000, 1), Duration::from_millis(100));
        assert_eq!(rate.charge(&level, 1_000, 2), Duration::from_millis(300));
        // Who waited is as far ahead as it may be, and who was silent has its burst again.
        assert_eq!(
            rate.charge(&level, 300_001_000, 1),
            Duration::from_millis(100)
        );
        assert_eq!(rate.charge(&level, u64::MAX / 2, 5), Duration::ZERO);
    }

    #[test]
    fn messages_of_an_address_are_counted_together_and_those_of_this_machine_are_not() {
        let shares = shares(|limits| {
            (limits.address_messages_per_s, limits.address_burst_messages) = (1, 2);
        });
        let rate = Rate::new(1_000, 1_000);
        let [one, other] = [(); 2].map(|()| shares.take(ip("192.0.2.1"), 9).expect("room"));
        let free = shares.take(ip("::1"), 9).expect("room");
        let levels: [AtomicU64; 3] = Default::default();
        assert_eq!(shares.charge(&one, (&rate, &levels[0]), 2), Duration::ZERO);
        assert!(shares.charge(&other, (&rate, &levels[1]), 1) > Duration::ZERO);
        let slow = Rate::new(1, 1);
        assert_eq!(shares.charge(&free, (&slow, &levels[2]), 9), Duration::ZERO);
    }
}
