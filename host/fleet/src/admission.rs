//! Admission to a port whose clients have not said who they are: bounded by number and by address. The newest connection
//! is always let in, and the oldest makes room for it, so that whoever opens connections and says nothing keeps nobody
//! out.

use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// Limits on connections that hold a permit.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// Connections of all addresses together.
    pub connections_max: usize,
    /// Connections of one address (IPv6: one /64). An address at this limit makes room for itself, not at the cost of
    /// others.
    pub address_connections_max: usize,
}

/// The permits of one port.
pub struct PortAdmission {
    limits: AdmissionLimits,
    entries: Mutex<AdmissionEntries>,
}

#[derive(Default)]
struct AdmissionEntries {
    next: u64,
    /// Admitted connections, the oldest first.
    all: VecDeque<AdmittedConnection>,
}

struct AdmittedConnection {
    number: u64,
    address: IpAddr,
    revoked: CancellationToken,
}

/// Permit of a connection; released on drop.
pub struct AdmissionPermit {
    admission: Arc<PortAdmission>,
    number: u64,
    revoked: CancellationToken,
}

impl PortAdmission {
    /// Admission of a port that has no connections yet.
    pub fn new(limits: AdmissionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            entries: Mutex::default(),
        })
    }

    /// Admits a connection, and revokes the permit of the one that makes room for it.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> AdmissionPermit {
        let address = network(address);
        let revoked = CancellationToken::new();
        let mut entries = self.entries.lock();
        let of_address = |entry: &&AdmittedConnection| entry.address == address;
        let oldest = if entries.all.iter().filter(of_address).count()
            >= self.limits.address_connections_max
        {
            entries
                .all
                .iter()
                .position(|entry| entry.address == address)
        } else {
            (entries.all.len() >= self.limits.connections_max).then_some(0)
        };
        if let Some(oldest) = oldest.and_then(|at| entries.all.remove(at)) {
            oldest.revoked.cancel();
        }
        let number = entries.next;
        entries.next += 1;
        entries.all.push_back(AdmittedConnection {
            number,
            address,
            revoked: revoked.clone(),
        });
        drop(entries);
        AdmissionPermit {
            admission: Arc::clone(self),
            number,
            revoked,
        }
    }
}

impl AdmissionPermit {
    /// Returns when the connection has to make room for a newer one.
    pub async fn revoked(&self) {
        self.revoked.cancelled().await;
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let mut entries = self.admission.entries.lock();
        entries.all.retain(|entry| entry.number != self.number);
    }
}

/// The network that one client has: an address of IPv4, or a network of IPv6.
fn network(address: IpAddr) -> IpAddr {
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

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_newest_is_admitted_and_the_oldest_of_the_greediest_goes() {
        let admission = PortAdmission::new(AdmissionLimits {
            connections_max: 3,
            address_connections_max: 2,
        });
        let mut permits: Vec<AdmissionPermit> = Vec::new();
        let mut admit = |address| {
            permits.push(admission.admit(ip(address)));
            let revoked = permits.iter().map(|permit| permit.revoked.is_cancelled());
            revoked.collect::<Vec<_>>()
        };
        admit("2001:db8::1");
        admit("192.0.2.1");
        // One network is one client, and makes room for itself.
        assert_eq!(admit("2001:db8::2"), [false, false, false]);
        assert_eq!(admit("2001:db8::3"), [true, false, false, false]);
        // Where all together are too many, the oldest goes.
        assert_eq!(admit("192.0.2.2"), [true, true, false, false, false]);
        drop(permits);
        assert!(admission.entries.lock().all.is_empty());
    }
}
