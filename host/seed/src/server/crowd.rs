//! Clients of an inner port that have not said who they are: bounded by number and by address. The newest is always let
//! in, and the oldest makes room for it, so that whoever opens connections and says nothing keeps nobody out.

use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// Limits on clients' connections.
#[derive(Clone, Copy, Debug)]
pub struct CrowdLimits {
    /// Connections of all addresses together.
    pub connections_max: usize,
    /// Connections of one address (IPv6: one /64): at its limit it makes room for itself, not at the cost of others.
    pub address_connections_max: usize,
}

/// The connections of an inner port whose clients have not said who they are.
pub struct Crowd {
    limits: CrowdLimits,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    next: u64,
    /// The oldest first.
    all: VecDeque<Entry>,
}

struct Entry {
    number: u64,
    address: IpAddr,
    shed: CancellationToken,
}

/// A connection of a [`Crowd`]; dropping it makes room.
pub struct Member {
    crowd: Arc<Crowd>,
    number: u64,
    shed: CancellationToken,
}

impl Crowd {
    /// An empty crowd.
    pub fn new(limits: CrowdLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            entries: Mutex::default(),
        })
    }

    /// Lets one more in, and sheds the connection whose place it takes.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Member {
        let address = network(address);
        let shed = CancellationToken::new();
        let mut entries = self.entries.lock();
        let of_address = |entry: &&Entry| entry.address == address;
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
            oldest.shed.cancel();
        }
        let number = entries.next;
        entries.next += 1;
        entries.all.push_back(Entry {
            number,
            address,
            shed: shed.clone(),
        });
        drop(entries);
        Member {
            crowd: Arc::clone(self),
            number,
            shed,
        }
    }
}

impl Member {
    /// Returns when it has to make room.
    pub async fn shed(&self) {
        self.shed.cancelled().await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut entries = self.crowd.entries.lock();
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
    fn the_newest_is_let_in_and_the_oldest_of_the_greediest_makes_room() {
        let crowd = Crowd::new(CrowdLimits {
            connections_max: 3,
            address_connections_max: 2,
        });
        let mut members = Vec::new();
        let mut enter = |address| {
            members.push(crowd.enter(ip(address)));
            let shed = members.iter().map(|member| member.shed.is_cancelled());
            shed.collect::<Vec<_>>()
        };
        enter("2001:db8::1");
        enter("192.0.2.1");
        // One network is one client, and makes room for itself.
        assert_eq!(enter("2001:db8::2"), [false, false, false]);
        assert_eq!(enter("2001:db8::3"), [true, false, false, false]);
        // Where all together are too many, the oldest goes.
        assert_eq!(enter("192.0.2.2"), [true, true, false, false, false]);
        drop(members);
        assert!(crowd.entries.lock().all.is_empty());
    }
}
