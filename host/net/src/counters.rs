//! Counts of connections and requests that were refused or cut, by cause. The node's metrics read them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a connection or a request was refused or cut, whatever protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCause {
    /// No PROXY header, or a malformed one, from where there must be one.
    ProxyHeader,
    /// More connections than the child may hold.
    ConnectionsMax,
    /// The process has no descriptor for the connection.
    Descriptors,
    /// More connections than one address may hold.
    AddressConnections,
    /// More requests at once than one address may have.
    AddressInFlight,
    /// More requests in a second than one address may send.
    AddressRate,
    /// The TLS handshake failed, or did not come.
    Handshake,
    /// Nothing came on a new connection.
    Silent,
}

/// Every cause with its name in metrics.
const CAUSES: [(RefusalCause, &str); 8] = [
    (RefusalCause::ProxyHeader, "proxy-header"),
    (RefusalCause::ConnectionsMax, "connections"),
    (RefusalCause::Descriptors, "descriptors"),
    (RefusalCause::AddressConnections, "address-connections"),
    (RefusalCause::AddressInFlight, "address-in-flight"),
    (RefusalCause::AddressRate, "address-rate"),
    (RefusalCause::Handshake, "handshake"),
    (RefusalCause::Silent, "silent"),
];

/// Counts of refused and cut connections and requests, by cause.
#[derive(Debug, Default)]
pub struct ConnectionCounters([AtomicU64; CAUSES.len()]);

impl ConnectionCounters {
    /// Counts one more of a cause.
    pub fn count(&self, cause: RefusalCause) {
        self.0[cause as usize].fetch_add(1, Relaxed);
    }

    /// Count of one cause.
    pub fn of(&self, cause: RefusalCause) -> u64 {
        self.0[cause as usize].load(Relaxed)
    }

    /// All counts, by the name of their cause in metrics.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CAUSES.iter().map(|(cause, name)| (*name, self.of(*cause)))
    }
}
