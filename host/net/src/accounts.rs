//! Limits on what one address may take of a child: connections, requests at once, requests in a second. IPv6 counts by
//! /64, which is what one client has.
//!
//! A connection looks its account up once; a request then costs two atomic operations, and none where its peer is
//! exempt. Exempt are ranges that the operator names (this machine, by default) and the nodes of the fleet, whose
//! clients were counted where they came in.

use crate::{AddressRange, NetLimits, address_range::any_contains, counters::RefusalCause};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Account of one address: its connections, its requests in flight and its rates.
#[derive(Default)]
pub struct Account {
    connections: AtomicU32,
    in_flight: AtomicU32,
    /// Time at which the bucket of requests is full again, in nanoseconds since the table was made (GCRA: one word in
    /// the place of a level and a time).
    full_at_ns: AtomicU64,
    /// Time at which the bucket of messages between requests is full again.
    messages_full_at_ns: AtomicU64,
}

impl Account {
    /// Level of the address's messages, for the rate that they are under.
    pub fn messages_full_at_ns(&self) -> &AtomicU64 {
        &self.messages_full_at_ns
    }
}

/// Accounts of all addresses that connect to a child.
pub struct Accounts {
    limits: AddressLimits,
    started: Instant,
    table: Mutex<HashMap<IpAddr, Arc<Account>>>,
    fleet: RwLock<HashSet<IpAddr>>,
}

struct AddressLimits {
    connections_max: u32,
    in_flight_max: u32,
    /// Time between two requests at the full rate.
    interval_ns: u64,
    /// Time by which an address may be ahead of that rate.
    burst_ns: u64,
    addresses_max: usize,
    exempt: Vec<AddressRange>,
}

/// Permit of an open connection, counted against its address; released on drop.
pub struct ConnectionPermit(Arc<Account>);

impl ConnectionPermit {
    /// Account of the address that holds the connection.
    pub fn account(&self) -> &Arc<Account> {
        &self.0
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// Permit of a request in flight; released on drop. `None` where its client is under no limit.
pub struct RequestPermit(Option<Arc<Account>>);

impl Drop for RequestPermit {
    #[inline]
    fn drop(&mut self) {
        if let Some(address) = &self.0 {
            address.in_flight.fetch_sub(1, Relaxed);
        }
    }
}

/// Refusal of a request above a limit of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverLimit {
    /// Limit that the request is above.
    pub cause: RefusalCause,
    /// Time after which to ask again.
    pub wait: Duration,
}

impl Accounts {
    /// Makes an empty table of accounts.
    pub fn new(limits: &NetLimits) -> Self {
        let interval_ns = 1_000_000_000 / u64::from(limits.address_requests_per_s.max(1));
        Self {
            limits: AddressLimits {
                connections_max: limits.address_connections_max,
                in_flight_max: limits.address_in_flight_max,
                interval_ns,
                burst_ns: interval_ns * u64::from(limits.address_burst_requests.max(1)),
                addresses_max: limits.addresses_max,
                exempt: limits.address_exempt.clone(),
            },
            started: Instant::now(),
            table: Mutex::default(),
            fleet: RwLock::default(),
        }
    }

    /// Names the nodes of the fleet, in the place of those named before. They are under no limit.
    pub fn set_fleet(&self, nodes: HashSet<IpAddr>) {
        *self.fleet.write() = nodes;
    }

    /// Takes a permit for a connection of an address. `None` where the address is under no limit.
    ///
    /// # Errors
    /// The address holds as many as it may.
    pub fn admit_connection(
        &self,
        address: IpAddr,
    ) -> Result<Option<ConnectionPermit>, RefusalCause> {
        self.admit_connection_within(address, self.limits.connections_max)
    }

    /// Takes a permit for a connection of an address that may hold `most`.
    ///
    /// # Errors
    /// The address holds as many as it may.
    pub fn admit_connection_within(
        &self,
        address: IpAddr,
        most: u32,
    ) -> Result<Option<ConnectionPermit>, RefusalCause> {
        let Some(account) = self.account(address) else {
            return Ok(None);
        };
        if raise(&account.connections, most) {
            Ok(Some(ConnectionPermit(account)))
        } else {
            Err(RefusalCause::AddressConnections)
        }
    }

    /// Finds or makes the account of an address. `None` where it is not limited, or where the table is full of
    /// addresses that all hold something: the child's own limits still hold then.
    pub fn account(&self, address: IpAddr) -> Option<Arc<Account>> {
        if self.is_exempt(address) {
            return None;
        }
        let key = key(address);
        let mut table = self.table.lock();
        if let Some(found) = table.get(&key) {
            return Some(Arc::clone(found));
        }
        if table.len() >= self.limits.addresses_max {
            self.sweep(&mut table);
            if table.len() >= self.limits.addresses_max {
                return None;
            }
        }
        Some(Arc::clone(table.entry(key).or_default()))
    }

    /// Whether an address is under no limit.
    pub fn is_exempt(&self, address: IpAddr) -> bool {
        any_contains(&self.limits.exempt, address) || self.fleet.read().contains(&address)
    }

    /// Forgets addresses that hold nothing and have a full bucket; where those are too few, all that hold nothing. Live
    /// accounts are no more than connections, so that a sweep mostly frees much, and is rare.
    fn sweep(&self, table: &mut HashMap<IpAddr, Arc<Account>>) {
        let now_ns = self.now_ns();
        let is_held = |address: &Arc<Account>| Arc::strong_count(address) > 1;
        table.retain(|_, address| is_held(address) || address.full_at_ns.load(Relaxed) > now_ns);
        if table.len() > self.limits.addresses_max / 2 {
            table.retain(|_, address| is_held(address));
        }
    }

    /// Takes a permit for a request of an account.
    ///
    /// # Errors
    /// There are too many requests at once, or in too short a time.
    #[inline]
    pub fn admit_request(
        &self,
        account: Option<&Arc<Account>>,
    ) -> Result<RequestPermit, OverLimit> {
        let Some(account) = account else {
            return Ok(RequestPermit(None));
        };
        if !raise(&account.in_flight, self.limits.in_flight_max) {
            return Err(OverLimit {
                cause: RefusalCause::AddressInFlight,
                wait: Duration::from_secs(1),
            });
        }
        let permit = RequestPermit(Some(Arc::clone(account)));
        match self.take_token(account) {
            Ok(()) => Ok(permit),
            Err(wait) => Err(OverLimit {
                cause: RefusalCause::AddressRate,
                wait,
            }),
        }
    }

    /// Charges a request to its address's rate, by the generic cell rate algorithm (ITU-T I.371): a token bucket in one
    /// word.
    fn take_token(&self, account: &Account) -> Result<(), Duration> {
        let now_ns = self.now_ns();
        let limits = &self.limits;
        let next = |full_at: u64| {
            let full_at = full_at.max(now_ns) + limits.interval_ns;
            (full_at - now_ns <= limits.burst_ns).then_some(full_at)
        };
        let taken = account.full_at_ns.fetch_update(Relaxed, Relaxed, next);
        taken.map(drop).map_err(|full_at| {
            let over = full_at + limits.interval_ns - now_ns - limits.burst_ns;
            Duration::from_nanos(over)
        })
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Counts one more if it fits. Returns whether it did.
fn raise(count: &AtomicU32, most: u32) -> bool {
    let before = count.fetch_add(1, Relaxed);
    if before >= most {
        count.fetch_sub(1, Relaxed);
    }
    before < most
}

fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(change: impl FnOnce(&mut NetLimits)) -> Accounts {
        let mut limits = NetLimits::default();
        change(&mut limits);
        Accounts::new(&limits)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn connections_count_by_address_and_ipv6_by_network() {
        let all = accounts(|limits| limits.address_connections_max = 2);
        let permits: Vec<_> = ["2001:db8::1", "2001:db8::2"]
            .map(|address| all.admit_connection(ip(address)).expect("there is room"))
            .into();
        assert_eq!(
            all.admit_connection(ip("2001:db8::3")).err(),
            Some(RefusalCause::AddressConnections)
        );
        assert!(all.admit_connection(ip("2001:db8:0:1::3")).is_ok());
        drop(permits);
        assert!(all.admit_connection(ip("2001:db8::3")).is_ok());
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_counts() {
        let all = accounts(|limits| {
            (limits.address_requests_per_s, limits.address_burst_requests) = (1, 3);
        });
        let account = all.account(ip("192.0.2.1"));
        for _ in 0..3 {
            assert!(all.admit_request(account.as_ref()).is_ok());
        }
        let over = all.admit_request(account.as_ref()).err();
        let OverLimit { cause, wait } = over.expect("the burst is over");
        assert_eq!(cause, RefusalCause::AddressRate);
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_secs(1),
            "{wait:?}"
        );
        // A second later there is room for one request, and not for two.
        let account = account.expect("it is limited");
        let earlier = account.full_at_ns.load(Relaxed) - 1_000_000_000;
        account.full_at_ns.store(earlier, Relaxed);
        assert!(all.admit_request(Some(&account)).is_ok());
        assert!(all.admit_request(Some(&account)).is_err());
        // What was refused is not in flight.
        assert_eq!(account.in_flight.load(Relaxed), 0);
    }

    #[test]
    fn requests_at_once_are_limited_until_one_ends() {
        let all = accounts(|limits| limits.address_in_flight_max = 1);
        let account = all.account(ip("192.0.2.1"));
        let permit = all.admit_request(account.as_ref());
        let refused = all
            .admit_request(account.as_ref())
            .err()
            .map(|over| over.cause);
        assert_eq!(refused, Some(RefusalCause::AddressInFlight));
        drop(permit);
        assert!(all.admit_request(account.as_ref()).is_ok());
    }

    #[test]
    fn this_machine_and_the_fleet_are_not_counted() {
        let all = accounts(|limits| limits.address_connections_max = 0);
        assert!(all.admit_connection(ip("127.0.0.1")).is_ok());
        assert!(all.admit_connection(ip("::1")).is_ok());
        assert!(all.admit_connection(ip("10.0.0.1")).is_err());
        all.set_fleet([ip("10.0.0.1")].into());
        assert!(all.admit_connection(ip("10.0.0.1")).is_ok());
    }

    #[test]
    fn the_table_is_bounded_and_keeps_who_holds_something() {
        let all = accounts(|limits| limits.addresses_max = 8);
        let held: Vec<_> = (0..4)
            .map(|n| all.admit_connection([10, 0, 0, n].into()))
            .collect();
        for n in 0..200 {
            assert!(all.account([10, 0, 1, n].into()).is_some());
            assert!(all.table.lock().len() <= 8);
        }
        for permit in held {
            let permit = permit.expect("there was room").expect("it is limited");
            assert_eq!(permit.account().connections.load(Relaxed), 1);
        }
        let held: Vec<_> = (0..8)
            .map(|n| all.admit_connection([10, 0, 2, n].into()))
            .collect();
        // Nobody can be forgotten: the child's own limits hold.
        assert!(all.account([10, 0, 3, 0].into()).is_none());
        drop(held);
    }
}
