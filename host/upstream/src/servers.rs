//! Choice of a server for a request: the servers of one upstream, as one child sees them. No I/O, and no clock but in
//! [`Servers::wait`]; what is known of the servers comes in by [`Lease::report`] and health checks.
//!
//! A server is left out while it fails its health checks or is ejected for failures in a row. Where that leaves none,
//! all are used: a group that is wholly unwell by our measure answers better than nothing does (Envoy calls this the
//! panic mode, with its threshold at zero).

mod budget;
mod choice;
mod queue;
mod server;
#[cfg(test)]
mod tests;

use super::counters::Cause;
use budget::Budget;
use http::{StatusCode, uri::Authority};
use parking_lot::Mutex;
use protoplex_wire::manifest::{Balance, Upstream};
use queue::Queue;
use server::Server;
use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// All servers of one upstream and their state.
pub struct Servers {
    upstream: Upstream,
    children: usize,
    in_flight_max: u32,
    queue_max: u32,
    servers: Box<[Arc<Server>]>,
    /// Where the next look for the least loaded one begins, so that equals take turns.
    turn: AtomicUsize,
    /// A sequence of random numbers (splitmix64).
    dice: AtomicU64,
    budget: Budget,
    queue: Arc<Queue>,
    /// OwnedGaugeGuard by who decides on an ejection, since that depends on all servers.
    ejecting: Mutex<()>,
    /// Times are milliseconds since then.
    epoch: Instant,
}

/// One request in flight at one server. Dropping it gives the place back and wakes one that waits.
pub struct Lease {
    servers: Arc<Servers>,
    index: usize,
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a head; 502, 503 and 504 count as failures.
    Answered(StatusCode),
    /// No connection, or no head.
    Failed,
}

/// Why no server takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Each has as many in flight as it may, or others wait already.
    #[error("every server is full")]
    Full,
    /// The group is empty.
    #[error("there is no server")]
    NoServer,
    /// So many wait already.
    #[error("every server is full, and so is the queue")]
    QueueFull,
    /// Waited in vain.
    #[error("every server is full, and none had a place in time")]
    TimedOut,
}

impl Outcome {
    /// Whether the server is to blame.
    pub(super) fn is_failure(self) -> bool {
        match self {
            Self::Failed => true,
            Self::Answered(status) => matches!(status.as_u16(), 502..=504),
        }
    }
}

impl Unavailable {
    pub(super) fn cause(self) -> Cause {
        match self {
            Self::Full | Self::QueueFull => Cause::Full,
            Self::NoServer => Cause::NoServer,
            Self::TimedOut => Cause::QueueTimeout,
        }
    }
}

/// State of a server, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Requests at it, from this child.
    pub in_flight: u32,
    /// The server fails its health checks.
    pub is_unhealthy: bool,
    /// The server is left out for failures in a row.
    pub is_ejected: bool,
}

impl Servers {
    /// The group as new: every server is well and gets its whole share. In-flight and queue limits are the upstream's
    /// divided by `children`, but at least 1 where there is one. Addresses that are no authority are left out; a
    /// checked manifest has none.
    pub fn new(upstream: &Upstream, children: usize) -> Arc<Self> {
        let servers = upstream.addresses.iter().filter_map(|address| {
            let authority = address.parse().ok()?;
            Some(Arc::new(Server::new(authority, 0)))
        });
        let servers = servers.collect();
        Self::made(upstream, children, servers, Arc::default(), Instant::now())
    }

    /// The group of the next build, or after a change of the directory: servers that stay keep their state, those
    /// that come get their slow start. The same group where nothing changed.
    pub fn successor(
        self: &Arc<Self>,
        upstream: &Upstream,
        children: usize,
        now: Instant,
    ) -> Arc<Self> {
        let old = &self.upstream;
        if old == upstream && self.children == children {
            return Arc::clone(self);
        }
        // What is known of a server was learnt by these.
        let same = old.protocol == upstream.protocol
            && old.tls == upstream.tls
            && old.health == upstream.health;
        let start_ms = if self.is_empty() { 0 } else { self.ms(now) };
        let servers = upstream.addresses.iter().filter_map(|address| {
            let authority: Authority = address.parse().ok()?;
            let known = self.servers.iter().find(|s| s.authority == authority);
            Some(match known {
                Some(server) if same => Arc::clone(server),
                Some(_) => Arc::new(Server::new(authority, 0)),
                None => Arc::new(Server::new(authority, start_ms)),
            })
        });
        let (servers, queue) = (servers.collect(), Arc::clone(&self.queue));
        Self::made(upstream, children, servers, queue, self.epoch)
    }

    fn made(
        upstream: &Upstream,
        children: usize,
        servers: Box<[Arc<Server>]>,
        queue: Arc<Queue>,
        epoch: Instant,
    ) -> Arc<Self> {
        let share = |limit: u32| match limit {
            0 => 0,
            limit => (limit / u32::try_from(children).unwrap_or(u32::MAX).max(1)).max(1),
        };
        Arc::new(Self {
            upstream: upstream.clone(),
            children,
            in_flight_max: share(upstream.in_flight_max),
            queue_max: share(upstream.queue_max),
            // Children must not all begin with the same server.
            turn: AtomicUsize::new(rand::random_range(0..servers.len().max(1))),
            servers,
            dice: AtomicU64::new(rand::random()),
            budget: Budget::new(upstream.retries),
            queue,
            ejecting: Mutex::new(()),
            epoch,
        })
    }

    /// The upstream that the group was made of.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// A server's address.
    ///
    /// # Panics
    /// When `index` is not below [`Self::len`].
    pub fn authority(&self, index: usize) -> &Authority {
        &self.servers[index].authority
    }

    /// Number of servers, well or not.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Requests that wait for a place.
    pub fn waiting(&self) -> u32 {
        self.queue.waiting()
    }

    /// State of a server.
    ///
    /// # Panics
    /// When `index` is not below [`Self::len`].
    pub fn standing(&self, index: usize, now: Instant) -> Standing {
        let server = &self.servers[index];
        Standing {
            in_flight: server.in_flight.load(Relaxed),
            is_unhealthy: server.is_unhealthy(),
            is_ejected: server.is_ejected(self.ms(now)),
        }
    }

    /// A server for a request, now. `key` is what rendezvous hashes ([`key_hash`] makes one) where the upstream
    /// balances by key; without one the least loaded is taken. `tried` has the bits of the servers that this request
    /// failed on already: they are taken when no other can be.
    ///
    /// # Errors
    /// When all are full, others wait, or there is none.
    pub fn pick(
        self: &Arc<Self>,
        key: Option<u64>,
        tried: u64,
        now: Instant,
    ) -> Result<Lease, Unavailable> {
        if self.in_flight_max != 0 && self.queue.waiting() > 0 {
            return Err(Unavailable::Full);
        }
        self.take(key, tried, now)
    }

    /// Leases a server, waiting for a place: first come, first served, in a queue of bounded length and for a bounded
    /// time. Cancel safe: dropping the future gives up the place in the queue.
    ///
    /// # Errors
    /// When the queue is full, the time is over, or there is no server.
    pub async fn wait(
        self: &Arc<Self>,
        key: Option<u64>,
        tried: u64,
    ) -> Result<Lease, Unavailable> {
        let place = self.queue.enter(self.queue_max)?;
        let timeout = Duration::from_millis(self.upstream.queue_timeout_ms);
        let deadline = tokio::time::Instant::now() + timeout;
        let mut may_look = place.first;
        loop {
            let mut freed = pin!(self.queue.freed());
            freed.as_mut().enable();
            Queue::before_look();
            let now = Instant::now();
            if may_look {
                match self.take(key, tried, now) {
                    Err(Unavailable::Full) => {}
                    taken => return taken,
                }
            }
            may_look = true;
            let until = match self.next_return(now) {
                Some(after) => deadline.min(tokio::time::Instant::now() + after),
                None => deadline,
            };
            tokio::select! {
                biased;
                () = freed => {}
                () = tokio::time::sleep_until(until) => {
                    if tokio::time::Instant::now() >= deadline {
                        return Err(Unavailable::TimedOut);
                    }
                }
            }
        }
    }

    /// Whether a request that failed may be sent again: there are attempts left, and the group's budget has one,
    /// which is spent by saying yes. `attempts_made` counts the first one.
    pub fn may_retry(&self, attempts_made: u32, now: Instant) -> bool {
        self.budget.spend(attempts_made, self.second(now))
    }

    fn take(
        self: &Arc<Self>,
        key: Option<u64>,
        tried: u64,
        now: Instant,
    ) -> Result<Lease, Unavailable> {
        let now_ms = self.ms(now);
        loop {
            let found = match (self.upstream.balance, key) {
                (Balance::Key, Some(key)) => self.by_key(key, tried, now_ms),
                _ => self.least_loaded(tried, now_ms),
            };
            let Some(index) = found else {
                return Err(match self.is_empty() {
                    true => Unavailable::NoServer,
                    false => Unavailable::Full,
                });
            };
            // Another thread may have taken the last place in between.
            if self.servers[index].enter(self.in_flight_max) {
                if tried == 0 {
                    self.budget.asked(self.second(now));
                }
                let servers = Arc::clone(self);
                return Ok(Lease { servers, index });
            }
        }
    }

    fn report(&self, index: usize, outcome: Outcome, now: Instant) {
        if !outcome.is_failure() {
            return self.succeeded(index);
        }
        let server = &self.servers[index];
        let failures = server.failures.fetch_add(1, Relaxed).saturating_add(1);
        let ejection = &self.upstream.ejection;
        if ejection.failures != 0 && failures >= ejection.failures {
            self.eject(server, failures, self.ms(now));
        }
    }

    fn succeeded(&self, index: usize) {
        let failures = &self.servers[index].failures;
        if failures.load(Relaxed) != 0 {
            failures.store(0, Relaxed);
        }
    }

    /// Leaves a server out, unless it is already, too many are, or no other is in.
    fn eject(&self, server: &Server, failures: u32, now_ms: u64) {
        let _deciding = self.ejecting.lock();
        let count = self.servers.len();
        let share = count * self.upstream.ejection.servers_percent_max as usize / 100;
        let others = self.servers.iter().filter(|s| !std::ptr::eq(&***s, server));
        let ejected = others.clone().filter(|s| s.is_ejected(now_ms)).count();
        let one_stays = others.clone().any(|s| !s.is_out(now_ms));
        if server.is_out(now_ms) || !one_stays || ejected >= share.max(1) {
            return;
        }
        let for_ms = server.eject(now_ms, self.upstream.ejection.eject_ms);
        tracing::warn!(server = %server.authority, failures, for_ms, "a server is left out for failures in a row");
    }

    /// Takes the finding of a health check.
    pub fn probed(&self, index: usize, well: bool, now: Instant) {
        let Some(check) = &self.upstream.health else {
            return;
        };
        let server = &self.servers[index];
        let after = match well {
            true => check.healthy_after,
            false => check.unhealthy_after,
        };
        match server.probed(well, after, self.ms(now)) {
            Some(true) => {
                tracing::info!(server = %server.authority, "a server is well again");
                self.queue.wake_all();
            }
            Some(false) => {
                tracing::warn!(server = %server.authority, "a server fails its health checks and is left out");
            }
            None => {}
        }
    }

    /// Until the next ejected server is back.
    fn next_return(&self, now: Instant) -> Option<Duration> {
        let now_ms = self.ms(now);
        let back = self.servers.iter().filter_map(|s| s.returns_at_ms(now_ms));
        back.min()
            .map(|at_ms| Duration::from_millis(at_ms - now_ms))
    }

    /// From 1, since 0 is "never".
    fn ms(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.epoch);
        elapsed.as_secs() * 1_000 + u64::from(elapsed.subsec_millis()) + 1
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs()
    }
}

impl Lease {
    /// Which server.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Address of the server.
    pub fn authority(&self) -> &Authority {
        self.servers.authority(self.index)
    }

    /// The server answered, and not as one in trouble does: a report for which it does not matter when.
    pub(super) fn succeeded(&self) {
        self.servers.succeeded(self.index);
    }

    /// Reports the end of the attempt; once an attempt.
    pub fn report(&self, outcome: Outcome, now: Instant) {
        self.servers.report(self.index, outcome, now);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.servers.servers[self.index].leave();
        if self.servers.in_flight_max != 0 {
            self.servers.queue.wake();
        }
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorities = self.servers.iter().map(|server| &server.authority);
        f.debug_list().entries(authorities).finish()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.authority())
    }
}

/// The hash of a key, the same on every node and in every release (FNV-1a, mixed).
pub fn key_hash(key: &[u8]) -> u64 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mixed(hash)
}

/// Finaliser of the hash: every bit of the result depends on every bit that goes in.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
