//! All connections of a process: by which listeners they came, how many there are, and how they are told to go.

use crate::{
    Account, Accounts, ConnectionCounters, ConnectionPermit, NetLimits, OverLimit, RefusalCause,
    RequestPermit, Trust, address_range::any_contains,
};
use rustls::ServerConfig;
use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How connections are admitted.
#[derive(Clone, Default)]
pub struct ConnectionSettings {
    /// Limits on what clients may take.
    pub limits: NetLimits,
    /// Forwarders that are believed.
    pub trust: Trust,
    /// TLS of listeners. Without it, those with TLS close every connection.
    pub tls: Option<Arc<ServerConfig>>,
}

/// The connections of any number of listeners, admitted and drained together. Clones are handles to them.
#[derive(Clone)]
pub struct Connections(Arc<ConnectionsInner>);

struct ConnectionsInner {
    limits: NetLimits,
    trust: Trust,
    tls: Option<TlsAcceptor>,
    accounts: Accounts,
    permits: Arc<Semaphore>,
    open: Arc<AtomicUsize>,
    counters: ConnectionCounters,
    draining: CancellationToken,
    tasks: TaskTracker,
}

impl Connections {
    /// Makes an empty set; nothing is accepted yet.
    pub fn new(settings: ConnectionSettings) -> Self {
        let ConnectionSettings { limits, trust, tls } = settings;
        Self(Arc::new(ConnectionsInner {
            accounts: Accounts::new(&limits),
            permits: Arc::new(Semaphore::new(limits.connections_max)),
            limits,
            trust,
            tls: tls.map(TlsAcceptor::from),
            open: Arc::default(),
            counters: ConnectionCounters::default(),
            draining: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Drains: idle connections end over a short while, others after what they are at.
    pub fn drain(&self) {
        self.0.draining.cancel();
        self.0.tasks.close();
    }

    /// Returns when no connection is left. Call [`Self::drain`] before.
    pub async fn drained(&self) {
        self.0.tasks.wait().await;
    }

    /// Cancelled when a drain begins.
    #[inline]
    pub fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    /// Connections that are open now.
    #[inline]
    pub fn open(&self) -> usize {
        self.0.open.load(Relaxed)
    }

    /// Gauge of the connections that are open.
    #[inline]
    pub fn gauge(&self) -> &Arc<AtomicUsize> {
        &self.0.open
    }

    /// Tracker of accept loops, connections, and what protocols start beside them: a drain waits for all.
    #[inline]
    pub fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Counts of refused and cut connections and requests, by cause.
    #[inline]
    pub fn counters(&self) -> &ConnectionCounters {
        &self.0.counters
    }

    /// Forwarders that are believed.
    #[inline]
    pub fn trust(&self) -> &Trust {
        &self.0.trust
    }

    /// Names the nodes of the fleet: their clients were counted where they came in.
    pub fn set_fleet(&self, nodes: HashSet<IpAddr>) {
        self.0.accounts.set_fleet(nodes);
    }

    /// Account of a client that a forwarder named; `None` where it is under no limit.
    #[inline]
    pub fn account(&self, client: IpAddr) -> Option<Arc<Account>> {
        self.0.accounts.account(client)
    }

    /// Takes a permit for a request of an account, and counts a request over its limits. A client without account is
    /// under no limit.
    ///
    /// # Errors
    /// The request is above a limit, which is told with the time to wait.
    #[inline]
    pub fn admit_request(
        &self,
        account: Option<&Arc<Account>>,
    ) -> Result<RequestPermit, OverLimit> {
        let admitted = self.0.accounts.admit_request(account);
        admitted.inspect_err(|over| self.0.counters.count(over.cause))
    }

    /// Takes a permit for a connection of an address. A forwarder has one without counting: its clients are counted.
    pub(crate) fn admit_connection(
        &self,
        address: IpAddr,
    ) -> Result<Option<ConnectionPermit>, RefusalCause> {
        if any_contains(&self.0.trust.forwarded_from, address) {
            return Ok(None);
        }
        self.0.accounts.admit_connection(address)
    }

    /// Limits of connections.
    #[inline]
    pub(crate) fn limits(&self) -> &NetLimits {
        &self.0.limits
    }

    pub(crate) fn tls(&self) -> Option<&TlsAcceptor> {
        self.0.tls.as_ref()
    }

    pub(crate) fn permits(&self) -> &Arc<Semaphore> {
        &self.0.permits
    }
}
