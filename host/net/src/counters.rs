//! Connections and requests that were refused or cut, and why. Read by the node's metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a client was refused or cut, whatever it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No PROXY header, or a malformed one, from where there must be one.
    ProxyHeader,
    /// More connections than the child may hold.
    ConnectionsMax,
    /// No descriptor for it.
    Descriptors,
    /// More connections than one address may hold.
    AddressConnections,
    /// More requests at once than one address may have.
    AddressInFlight,
    /// More requests in a second than one address may send.
    AddressRate,
    /// No TLS handshake, or a failed one.
    Handshake,
    /// Nothing came on a new connection.
    Silent,
}

/// Every cause with its name in metrics.
const CAUSES: [(Cause, &str); 8] = [
    (Cause::ProxyHeader, "proxy-header"),
    (Cause::ConnectionsMax, "connections"),
    (Cause::Descriptors, "descriptors"),
    (Cause::AddressConnections, "address-connections"),
    (Cause::AddressInFlight, "address-in-flight"),
    (Cause::AddressRate, "address-rate"),
    (Cause::Handshake, "handshake"),
    (Cause::Silent, "silent"),
];

/// A count for each cause.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; CAUSES.len()]);

impl Counters {
    /// Counts one more.
    pub fn count(&self, cause: Cause) {
        self.0[cause as usize].fetch_add(1, Relaxed);
    }

    /// How often.
    pub fn of(&self, cause: Cause) -> u64 {
        self.0[cause as usize].load(Relaxed)
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CAUSES.iter().map(|(cause, name)| (*name, self.of(*cause)))
    }
}
