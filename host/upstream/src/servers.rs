//! Choice of a server for a request: the servers of one upstream, as one child sees them. No I/O, and no clock but in
//! [`Servers::wait`]; what is known of the servers comes in by [`Lease::report`] and health checks.
//!
//! A server is left out while it fails its health checks or is ejected for failures in a row. Where that leaves none,
//! all are used: a group that is wholly unwell by our measure answers better than nothing does (Envoy calls this the
//! panic mode, with its threshold at zero).

mod budget;
mod choice;
mod hash;
mod health;
mod lease;
mod queue;
mod server;
#[cfg(test)]
mod tests;

pub use hash::key_hash;
pub use health::{AttemptOutcome, ServerHealth};
pub use lease::Lease;

use super::counters::FailureCause;
use budget::RetryBudget;
use http::uri::Authority;
use parking_lot::Mutex;
use protoplex_wire::manifest::{Balance, Upstream};
use queue::WaitQueue;
use server::UpstreamServer;
use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::{Duration, Instant},
};

/// All servers of one upstream, with their load and health.
pub struct Servers {
    upstream: Upstream,
    children: usize,
    in_flight_max: u32,
    queue_max: u32,
    servers: Box<[Arc<UpstreamServer>]>,
    /// Index at which the next look for the least loaded server begins, so that equals take turns.
    turn: AtomicUsize,
    /// State of the random numbers (splitmix64).
    dice: AtomicU64,
    budget: RetryBudget,
    queue: Arc<WaitQueue>,
    /// Held while an ejection is decided on, since that depends on all servers.
    ejecting: Mutex<()>,
    /// Zero of all times in milliseconds.
    epoch: Instant,
}

/// Why no server takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Each server has as many requests in flight as it may, or others wait already.
    #[error("every server is full")]
    Full,
    /// The group is empty.
    #[error("there is no server")]
    NoServer,
    /// Every server is full, and as many requests wait as may.
    #[error("every server is full, and so is the queue")]
    QueueFull,
    /// The request waited in the queue for as long as it may.
    #[error("every server is full, and none had a place in time")]
    TimedOut,
}

impl Unavailable {
    pub(super) fn cause(self) -> FailureCause {
        match self {
            Self::Full | Self::QueueFull => FailureCause::Full,
            Self::NoServer => FailureCause::NoServer,
            Self::TimedOut => FailureCause::QueueTimeout,
        }
    }
}

impl Servers {
    /// Makes a group in which every server is healthy and gets its whole share. In-flight and queue limits are the
    /// upstream's divided by `children`, but at least 1 where there is one. Addresses that are no authority are left
    /// out; a checked manifest has none.
    pub fn new(upstream: &Upstream, children: usize) -> Arc<Self> {
        let servers = upstream.addresses.iter().filter_map(|address| {
            let authority = address.parse().ok()?;
            Some(Arc::new(UpstreamServer::new(authority, 0)))
        });
        let servers = servers.collect();
        Self::made(upstream, children, servers, Arc::default(), Instant::now())
    }

    /// Returns the group of the next build, or after a change of the directory: servers that stay keep their state,
    /// those that come get their slow start. It is the same group where nothing changed.
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
        // State of a server is kept only where none of these changed, by which it was learnt.
        let same = old.protocol == upstream.protocol
            && old.tls == upstream.tls
            && old.health == upstream.health;
        let start_ms = if self.is_empty() { 0 } else { self.ms(now) };
        let servers = upstream.addresses.iter().filter_map(|address| {
            let authority: Authority = address.parse().ok()?;
            let known = self.servers.iter().find(|s| s.authority == authority);
            Some(match known {
                Some(server) if same => Arc::clone(server),
                Some(_) => Arc::new(UpstreamServer::new(authority, 0)),
                None => Arc::new(UpstreamServer::new(authority, start_ms)),
            })
        });
        let (servers, queue) = (servers.collect(), Arc::clone(&self.queue));
        Self::made(upstream, children, servers, queue, self.epoch)
    }

    fn made(
        upstream: &Upstream,
        children: usize,
        servers: Box<[Arc<UpstreamServer>]>,
        queue: Arc<WaitQueue>,
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
            // Children must not all begin with the same server, so the first one is random.
            turn: AtomicUsize::new(rand::random_range(0..servers.len().max(1))),
            servers,
            dice: AtomicU64::new(rand::random()),
            budget: RetryBudget::new(upstream.retries),
            queue,
            ejecting: Mutex::new(()),
            epoch,
        })
    }

    /// Manifest's entry of the upstream that the group was made of.
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

    /// Number of servers, healthy or not.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether the group has no server.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Number of requests that wait in the queue.
    pub fn waiting(&self) -> u32 {
        self.queue.waiting()
    }

    /// Picks a server for a request, without waiting. `key` is what rendezvous hashes ([`key_hash`] makes one) where
    /// the upstream balances by key; without one the least loaded is taken. `tried` has the bits of the servers that
    /// this request failed on already: they are taken when no other can be.
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

    /// Picks a server, and waits in the queue where all are full: first come, first served, in a queue of bounded
    /// length and for a bounded time. Cancel safe: dropping the future gives up the place in the queue.
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
            WaitQueue::before_look();
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
            // Another thread may have taken the last room in between.
            if self.servers[index].enter(self.in_flight_max) {
                if tried == 0 {
                    self.budget.asked(self.second(now));
                }
                let servers = Arc::clone(self);
                return Ok(Lease { servers, index });
            }
        }
    }

    /// Time until the next ejected server is back.
    fn next_return(&self, now: Instant) -> Option<Duration> {
        let now_ms = self.ms(now);
        let back = self.servers.iter().filter_map(|s| s.returns_at_ms(now_ms));
        back.min()
            .map(|at_ms| Duration::from_millis(at_ms - now_ms))
    }

    /// Milliseconds since `epoch`, from 1 on, since 0 is "never".
    fn ms(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.epoch);
        elapsed.as_secs() * 1_000 + u64::from(elapsed.subsec_millis()) + 1
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs()
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorities = self.servers.iter().map(|server| &server.authority);
        f.debug_list().entries(authorities).finish()
    }
}
