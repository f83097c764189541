//! The fleet as a child sees it: built-in upstreams, answered from memory.
//!
//! `role:NAME` is one of the healthy nodes of that role; `live:NAMESPACE` the child of a live node that a key is
//! placed on. Nothing is looked up and nothing is kept for a key: a placement is one hash and two indices.

use http::uri::Authority;
use parking_lot::Mutex;
use protoplex_fleet::build_token::HopKey;
use protoplex_wire::{
    directory::{Directory, SLOTS, slot_of},
    manifest::Role,
    status::Addresses,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// Time that a relay waits for the first healthy node of a role: nodes come and go, and the directory is a moment
/// behind.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// After a wait in vain, what needs that role is refused at once for so long, unless the directory changes: clients
/// of something that is down would pile up.
const REFUSE_MAX: Duration = Duration::from_secs(1);
/// A slot that no child has.
const NOBODY: u16 = u16::MAX;

/// Nodes of the fleet that a relay goes to, as the directory answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FleetTarget {
    /// Any node of a role.
    Role(Role),
    /// The child of a live node that a key of a namespace is placed on.
    Live {
        /// The namespace.
        namespace: String,
    },
}

/// The kind of node that a relay waits for where there is none. Keys of all namespaces are on the same nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Awaited {
    NodeOf(Role),
    Placement,
}

impl FleetTarget {
    fn awaited(&self) -> Awaited {
        match self {
            Self::Role(role) => Awaited::NodeOf(*role),
            Self::Live { .. } => Awaited::Placement,
        }
    }
}

/// One version of the directory, made ready for look-ups.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) hop_key: HopKey,
    roles: BTreeMap<Role, Vec<Authority>>,
    next: AtomicUsize,
    /// Children of live nodes that have a slot.
    children: Vec<Authority>,
    /// Index in `children` of each slot's owner.
    slots: Vec<u16>,
    /// When the first relay began to wait, for each kind of node that is missing.
    waits: Mutex<BTreeMap<Awaited, Instant>>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new("", &Directory::default(), "")
    }
}

impl Fleet {
    /// The view of a node of that region: of each role it takes the nodes of its own region, where there are any.
    pub(super) fn new(hop_key: &str, directory: &Directory, region: &str) -> Self {
        let mut near = BTreeMap::<Role, Vec<Authority>>::new();
        let mut all = near.clone();
        for member in directory.usable() {
            let Some(address) = authority(relay_url(&member.addresses)) else {
                continue;
            };
            if member.region == region {
                near.entry(member.role).or_default().push(address.clone());
            }
            all.entry(member.role).or_default().push(address);
        }
        all.extend(near);
        let (children, slots) = children(directory);
        Self {
            hop_key: HopKey::new(hop_key),
            roles: all,
            next: AtomicUsize::new(0),
            children,
            slots,
            waits: Mutex::default(),
        }
    }

    /// A server of a built-in upstream. Round robin over a role's nodes; of live nodes the child that has the key.
    pub(super) fn find(&self, target: &FleetTarget, key: Option<&str>) -> Option<&Authority> {
        match target {
            FleetTarget::Live { namespace } => self.place(namespace, key?),
            FleetTarget::Role(role) => {
                let all = self.roles.get(role)?;
                all.get(self.next.fetch_add(1, Ordering::Relaxed) % all.len().max(1))
            }
        }
    }

    /// The nodes that take the requests of each role.
    pub(super) fn roles(&self) -> impl Iterator<Item = (Role, &[Authority])> {
        self.roles.iter().map(|(role, nodes)| (*role, &**nodes))
    }

    /// The child of a live node that a key of a namespace is placed on.
    fn place(&self, namespace: &str, key: &str) -> Option<&Authority> {
        let child = self.slots[usize::from(slot_of(namespace, key))];
        self.children.get(usize::from(child))
    }

    /// Time that a relay may wait for what is not there. All that miss the same share one wait, and after it none waits
    /// for a while.
    pub(super) fn wait_timeout(&self, target: &FleetTarget, now: Instant) -> Duration {
        let mut waits = self.waits.lock();
        let over = WAIT_MAX + REFUSE_MAX;
        waits.retain(|_, since| now.saturating_duration_since(*since) < over);
        let since = *waits.entry(target.awaited()).or_insert(now);
        (since + WAIT_MAX).saturating_duration_since(now)
    }
}

/// The address at which a node takes internal requests: the public port, where the node names no internal one.
fn relay_url(addresses: &Addresses) -> &str {
    match addresses.internal.as_str() {
        "" => &addresses.http,
        internal => internal,
    }
}

fn authority(url: &str) -> Option<Authority> {
    url.strip_prefix("http://")?.parse().ok()
}

fn children(directory: &Directory) -> (Vec<Authority>, Vec<u16>) {
    let mut children = Vec::new();
    let mut slots = vec![NOBODY; usize::from(SLOTS)];
    let mut known = HashMap::new();
    for (slot, place) in directory.slots.placed() {
        let member = directory.members.get(&*place.node);
        let address = member.and_then(|m| m.child_addresses.get(usize::from(place.child)));
        let Some(address) = address else { continue };
        let index = match known.get(place) {
            Some(index) => *index,
            None => {
                let Some(authority) = authority(address) else {
                    continue;
                };
                // There are at most as many children as slots.
                let index = u16::try_from(children.len()).unwrap_or(NOBODY);
                children.push(authority);
                known.insert(place, index);
                index
            }
        };
        slots[usize::from(slot)] = index;
    }
    (children, slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_wire::directory::{Member, Slots};

    fn chat() -> FleetTarget {
        FleetTarget::Live {
            namespace: "chat".to_owned(),
        }
    }

    fn member(role: Role, region: &str, port: u16) -> Member {
        Member {
            role,
            region: region.to_owned(),
            addresses: Addresses {
                http: format!("http://127.0.0.1:{port}"),
                ..Addresses::default()
            },
            child_addresses: Vec::new(),
            capacity: 1,
            cordoned: false,
        }
    }

    fn live(nodes: u16, children: u16) -> Directory {
        let mut directory = Directory::default();
        for node in 0..nodes {
            let mut member = member(Role::Live, "", node);
            member.child_addresses = (0..children)
                .map(|child| format!("http://127.0.0.{child}:{}", 1_000 + node))
                .collect();
            directory.members.insert(format!("live-{node}"), member);
        }
        let mut slots = Slots::default();
        for slot in 0..SLOTS {
            let place = protoplex_wire::directory::ChildId {
                node: format!("live-{}", slot % nodes).into(),
                child: slot / nodes % children,
            };
            slots.set(slot, Some(place));
        }
        directory.slots = slots;
        directory
    }

    #[test]
    fn a_key_is_placed_on_one_child_and_keys_on_all() {
        let (one, other) = (live(3, 2), live(3, 2));
        let (one, other) = (Fleet::new("", &one, "eu"), Fleet::new("", &other, "us"));
        let mut seen = std::collections::HashSet::new();
        for key in 0..1_000 {
            let key = format!("room-{key}");
            let place = one.find(&chat(), Some(&key)).unwrap();
            assert_eq!(Some(place), other.find(&chat(), Some(&key)));
            seen.insert(place.clone());
        }
        assert_eq!(seen.len(), 6);
        assert_eq!(one.find(&chat(), None), None);
        assert_eq!(Fleet::default().find(&chat(), Some("x")), None);
    }

    #[test]
    fn nodes_of_the_own_region_come_first_and_cordoned_ones_last() {
        let mut directory = Directory::default();
        let mut add = |name: &str, member| drop(directory.members.insert(name.into(), member));
        add("a", member(Role::App, "eu", 1));
        add("b", member(Role::App, "us", 2));
        add(
            "c",
            Member {
                cordoned: true,
                ..member(Role::App, "eu", 3)
            },
        );
        add(
            "d",
            Member {
                cordoned: true,
                ..member(Role::Fileserver, "us", 4)
            },
        );
        let ports = |region: &str, role: Role| {
            let (fleet, target) = (Fleet::new("", &directory, region), FleetTarget::Role(role));
            let ports = (0..6).filter_map(|_| fleet.find(&target, None)?.port_u16());
            ports.collect::<std::collections::BTreeSet<u16>>()
        };
        assert_eq!(ports("eu", Role::App), [1].into());
        assert_eq!(ports("us", Role::App), [2].into());
        assert_eq!(ports("", Role::App), [1, 2].into());
        assert_eq!(
            ports("eu", Role::Fileserver),
            [4].into(),
            "it serves until it drains"
        );
        assert_eq!(ports("eu", Role::Live), [].into());
    }

    #[test]
    fn what_is_relayed_to_a_node_goes_to_its_internal_listener() {
        let mut inner = member(Role::App, "", 1);
        inner.addresses.internal = "http://127.0.0.1:7".to_owned();
        let mut directory = Directory::default();
        directory.members.insert("a".into(), inner);
        let fleet = Fleet::new("", &directory, "");
        let found = fleet.find(&FleetTarget::Role(Role::App), None);
        let found = found.and_then(Authority::port_u16);
        assert_eq!(found, Some(7));
    }

    #[test]
    fn relays_without_a_node_share_one_wait_then_fail_at_once() {
        let (fleet, start) = (Fleet::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        let other = FleetTarget::Live {
            namespace: "other".to_owned(),
        };
        assert_eq!(fleet.wait_timeout(&chat(), start), WAIT_MAX);
        assert_eq!(
            fleet.wait_timeout(&other, after(400)),
            WAIT_MAX - Duration::from_millis(400)
        );
        assert_eq!(
            fleet.wait_timeout(&FleetTarget::Role(Role::App), after(400)),
            WAIT_MAX
        );
        assert_eq!(fleet.wait_timeout(&chat(), after(1_500)), Duration::ZERO);
        assert_eq!(fleet.wait_timeout(&chat(), after(2_100)), WAIT_MAX);
    }

    /// Prints, and asserts nothing about time: machines differ.
    #[test]
    fn what_a_placement_costs() {
        let fleet = Fleet::new("", &live(100, 16), "");
        let keys: Vec<String> = (0..1_000)
            .map(|n| format!("/rooms/{n:08}/members"))
            .collect();
        let chat = chat();
        let (rounds, start, mut found) = (1_000, Instant::now(), 0_usize);
        for _ in 0..rounds {
            let all = keys.iter().map(|key| fleet.find(&chat, Some(key)));
            found += std::hint::black_box(all.flatten().count());
        }
        let took = start.elapsed().as_nanos() / (rounds * keys.len() as u128);
        assert_eq!(found, 1_000_000);
        #[expect(clippy::print_stderr, reason = "a measurement")]
        {
            eprintln!("a placement of a key of 23 bytes among 1,600 children: {took} ns");
        }
    }
}
