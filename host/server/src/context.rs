//! Everything that all connections of a server share.

use crate::{
    AccessLog, HttpCounters, HttpLimits,
    body_rules::BodyRules,
    refusal::{HttpRefusal, TOO_MANY_REQUESTS},
};
use protoplex_http2::WindowBudget;
use protoplex_net::{AddressRange, Connections, Peer, RequestPermit};
use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

/// Everything that all connections of a server share.
pub(crate) struct ServerContext<S> {
    pub(crate) service: Arc<S>,
    pub(crate) limits: HttpLimits,
    pub(crate) connections: Connections,
    pub(crate) body_rules: Arc<BodyRules>,
    pub(crate) access_log: Option<Arc<dyn AccessLog>>,
    pub(crate) counters: HttpCounters,
    pub(crate) in_flight: Arc<AtomicUsize>,
    pub(crate) tunnels: Arc<AtomicUsize>,
    pub(crate) window_budget: Arc<WindowBudget>,
}

impl<S> ServerContext<S> {
    /// Forwarders that are believed when they speak of others.
    pub(crate) fn forwarders(&self) -> &[AddressRange] {
        &self.connections.trust().forwarded_from
    }

    /// Takes a permit for a request, or says how long its client has to wait.
    pub(crate) fn admit(&self, peer: &Peer, client: IpAddr) -> Result<RequestPermit, Duration> {
        let connections = &self.connections;
        let admitted = match peer.forwards {
            true => connections.admit_request(connections.account(client).as_ref()),
            false => connections.admit_request(peer.account.as_ref()),
        };
        admitted.map_err(|over| over.wait)
    }

    /// Counts a request whose head is refused, against its client as well: it takes a permit. Returns what the client
    /// is told: one that is over its limits hears that.
    pub(crate) fn refuse(&self, peer: &Peer, client: IpAddr, refusal: HttpRefusal) -> HttpRefusal {
        if self.admit(peer, client).is_err() {
            return TOO_MANY_REQUESTS;
        }
        if let Some(cause) = refusal.cause() {
            self.counters.count(cause);
        }
        refusal
    }
}
