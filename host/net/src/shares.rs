//! Shares of what clients hold that is no connection of theirs to this process: sessions that go on between requests,
//! streams that share a connection, and what a node of the fleet relays. Bounded as connections are, by number and by
//! address.

use crate::{Accounts, ConnectionPermit, NetLimits};
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

/// Counts what clients hold of one kind in a child.
pub struct Shares {
    accounts: Accounts,
    held: Arc<AtomicUsize>,
    held_max: usize,
    /// Most that one address may hold.
    address_held_max: u32,
    messages: Rate,
    started: Instant,
}

/// Permit of one thing that a client holds; its drop makes room.
pub struct Share {
    permit: Option<ConnectionPermit>,
    is_limited: bool,
    held: Arc<AtomicUsize>,
}

/// Why there is no room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharesFull {
    /// The address holds as much as it may.
    Address,
    /// All clients together hold as much as the child may.
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
    /// Makes a rate of `per_s` with a burst of `burst`.
    pub fn new(per_s: u32, burst: u32) -> Self {
        let interval_ns = 1_000_000_000 / u64::from(per_s.max(1));
        Self {
            interval_ns,
            burst_ns: interval_ns * u64::from(burst.max(1)),
        }
    }

    /// Charges `used` to a level, and returns how long to wait for it to be within the rate.
    ///
    /// # Errors
    /// The wait would be longer than the longest one: nothing was taken, and this is how long to stay away.
    pub fn charge(
        &self,
        full_at_ns: &AtomicU64,
        now_ns: u64,
        cost: u32,
        wait_max: Duration,
    ) -> Result<Duration, Duration> {
        let cost_ns = self.interval_ns.saturating_mul(cost.into());
        let charged = |full_at: u64| full_at.max(now_ns).saturating_add(cost_ns);
        let wait = |charged: u64| {
            let within = now_ns.saturating_add(self.burst_ns);
            Duration::from_nanos(charged.saturating_sub(within))
        };
        let taken = full_at_ns.fetch_update(Relaxed, Relaxed, |level| {
            let charged = charged(level);
            (wait(charged) <= wait_max).then_some(charged)
        });
        match taken {
            Ok(before) => Ok(wait(charged(before))),
            Err(level) => Err(wait(charged(level)).saturating_sub(wait_max)),
        }
    }
}

impl Shares {
    /// Makes an empty count, with the limits of connections.
    pub fn new(limits: &NetLimits) -> Self {
        Self {
            accounts: Accounts::new(limits),
            held: Arc::default(),
            held_max: limits.connections_max,
            address_held_max: limits.address_connections_max,
            messages: Rate::new(limits.address_messages_per_s, limits.address_burst_messages),
            started: Instant::now(),
        }
    }

    /// Names the nodes of the fleet, whose own requests are under no limit by address.
    pub fn set_fleet(&self, nodes: HashSet<IpAddr>) {
        self.accounts.set_fleet(nodes);
    }

    /// Takes a permit for an address, which may hold `address_max` where that is less than what addresses may hold
    /// anyway.
    ///
    /// # Errors
    /// See [`SharesFull`].
    pub fn take(&self, address: IpAddr, address_max: u32) -> Result<Share, SharesFull> {
        let permit = self
            .accounts
            .admit_connection_within(address, address_max.min(self.address_held_max));
        let permit = permit.map_err(|_| SharesFull::Address)?;
        let before = self.held.fetch_add(1, Relaxed);
        // Made before the check, so that its drop gives the count back.
        let share = Share {
            is_limited: permit.is_some() || !self.accounts.is_exempt(address),
            permit,
            held: Arc::clone(&self.held),
        };
        if before >= self.held_max {
            return Err(SharesFull::Child);
        }
        Ok(share)
    }

    /// Nanoseconds since this count was made: the clock of rates.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Charges messages of the holder of a permit to a rate of its own and to that of its address, and returns how long
    /// to wait before more of it is read: nothing where its address is under no limit.
    ///
    /// # Errors
    /// The wait would be longer than the longest one: nothing was taken, and this is how long to stay away.
    pub fn charge(
        &self,
        share: &Share,
        (rate, full_at_ns): (&Rate, &AtomicU64),
        cost: u32,
        wait_max: Duration,
    ) -> Result<Duration, Duration> {
        if !share.is_limited {
            return Ok(Duration::ZERO);
        }
        let now_ns = self.now_ns();
        let alone = rate.charge(full_at_ns, now_ns, cost, wait_max)?;
        let Some(permit) = &share.permit else {
            return Ok(alone);
        };
        let level = permit.account().messages_full_at_ns();
        let together = self.messages.charge(level, now_ns, cost, wait_max)?;
        Ok(alone.max(together))
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

    fn shares(change: impl FnOnce(&mut NetLimits)) -> Shares {
        let mut limits = NetLimits::default();
        change(&mut limits);
        Shares::new(&limits)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_a_share_and_all_together_a_limit() {
        let shares = shares(|limits| {
            (limits.connections_max, limits.address_connections_max) = (3, 2);
        });
        let take = |address| shares.take(ip(address), u32::MAX);
        let first = take("192.0.2.1").ok();
        let second = take("192.0.2.1").ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(take("192.0.2.1").err(), Some(SharesFull::Address));
        assert_eq!(
            shares.take(ip("192.0.2.2"), 0).err(),
            Some(SharesFull::Address)
        );
        let third = take("192.0.2.2").ok();
        assert!(third.is_some());
        assert_eq!(take("192.0.2.3").err(), Some(SharesFull::Child));
        // This machine has no share, but is part of all together.
        assert_eq!(take("127.0.0.1").err(), Some(SharesFull::Child));
        drop(first);
        assert!(take("127.0.0.1").is_ok());
        // What was refused is not held.
        assert!(take("192.0.2.1").is_ok());
    }

    #[test]
    fn who_sends_more_than_its_rate_waits_and_a_burst_does_not() {
        let rate = Rate::new(10, 5);
        let level = AtomicU64::new(0);
        let ms = Duration::from_millis;
        let charge = |now_ns, cost, wait_max| rate.charge(&level, now_ns, cost, wait_max);
        for _ in 0..5 {
            assert_eq!(charge(1_000, 1, ms(0)), Ok(ms(0)));
        }
        assert_eq!(charge(1_000, 1, Duration::MAX), Ok(ms(100)));
        assert_eq!(charge(1_000, 2, Duration::MAX), Ok(ms(300)));
        // What would have to wait too long is not taken.
        assert_eq!(charge(1_000, 3, ms(400)), Err(ms(200)));
        // Who waited is as far ahead as it may be, and who was silent has its burst again.
        assert_eq!(charge(300_001_000, 1, ms(100)), Ok(ms(100)));
        assert_eq!(charge(u64::MAX / 2, 5, ms(0)), Ok(ms(0)));
    }

    #[test]
    fn messages_count_by_address_and_not_for_this_machine() {
        let shares = shares(|limits| {
            (limits.address_messages_per_s, limits.address_burst_messages) = (1, 2);
        });
        let rate = Rate::new(1_000, 1_000);
        let [one, other] = [(); 2].map(|()| shares.take(ip("192.0.2.1"), 9).expect("room"));
        let free = shares.take(ip("::1"), 9).expect("room");
        let levels: [AtomicU64; 3] = Default::default();
        let charge = |share, rate, level, cost| {
            shares.charge(share, (rate, &levels[level]), cost, Duration::MAX)
        };
        assert_eq!(charge(&one, &rate, 0, 2), Ok(Duration::ZERO));
        assert!(charge(&other, &rate, 1, 1) > Ok(Duration::ZERO));
        let slow = Rate::new(1, 1);
        assert_eq!(charge(&free, &slow, 2, 9), Ok(Duration::ZERO));
    }
}
