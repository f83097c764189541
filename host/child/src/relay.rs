//! Servers that relays of all builds share: nodes of the fleet, by the directory, and addresses that grants name. The
//! servers of an upstream are the build's.

use super::{
    fleet::{Fleet, FleetTarget},
    relay_grant::Destination,
};
use http::uri::Authority;
use parking_lot::Mutex;
use protoplex_fleet::build_token::{BuildToken, BuildTokenFault};
use protoplex_upstream::{Group, Load, UpstreamContext};
use protoplex_wire::{
    BuildId, Manifest, UpstreamRef,
    manifest::{Ejection, Role, Upstream, defaults},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;

/// Servers that no upstream of a build names: nodes of the fleet, and addresses that grants name. Above this the
/// unused ones are forgotten.
const SERVERS_MAX: usize = 1_024;
/// Twice the deadline of apps that say nothing of it: they may queue for as long, too.
const FIRST_BYTE_TIMEOUT_MS: u64 = 2 * defaults::APP_DEADLINE_MS;
/// Added for the node that runs the app: its own answer for a late app should come first.
const APP_MARGIN: Duration = Duration::from_secs(5);

/// Name in metrics for servers that no upstream names.
const ADDRESSES: &str = "(addresses)";

/// The servers that one relay goes to.
pub(super) struct Servers {
    pub(super) group: Arc<Group>,
    /// Names the build to a node of the fleet; other servers get none.
    pub(super) token: Option<Arc<BuildToken>>,
}

/// All servers of a child that no upstream of a build names.
pub(super) struct RelayServers {
    pub(super) means: Arc<UpstreamContext>,
    /// The directory as relays read it.
    fleet: watch::Sender<Fleet>,
    by_address: Mutex<HashMap<Authority, Arc<Group>>>,
    /// Nodes of the fleet that a role's requests go to.
    by_role: Mutex<HashMap<Role, Arc<Group>>>,
}

impl RelayServers {
    pub(super) fn new(means: UpstreamContext) -> Self {
        Self {
            means: Arc::new(means),
            fleet: watch::Sender::new(Fleet::default()),
            by_address: Mutex::default(),
            by_role: Mutex::default(),
        }
    }

    /// Reads the token by which a node of the fleet says which build a request belongs to.
    pub(super) fn verify(&self, token: &[u8]) -> Result<Arc<BuildToken>, BuildTokenFault> {
        self.fleet.borrow().hop_key.verify(token, SystemTime::now())
    }

    /// Finds the servers for a relay. Nodes of the fleet that are not there yet are waited for.
    pub(super) async fn find(
        &self,
        build: &BuildId,
        to: &Destination,
        key: Option<&str>,
    ) -> Option<Servers> {
        let (group, token) = match to {
            Destination::Upstream(group) => (Arc::clone(group), None),
            Destination::Server(server) => (self.server(server)?, None),
            Destination::Fleet(target) => {
                return match self.nodes_now(build, target, key) {
                    // On the heap: no request carries what a wait would need.
                    None => Box::pin(self.nodes_later(build, target, key)).await,
                    found => found,
                };
            }
        };
        Some(Servers { group, token })
    }

    fn nodes_now(
        &self,
        build: &BuildId,
        target: &FleetTarget,
        key: Option<&str>,
    ) -> Option<Servers> {
        let (authority, token) = {
            let fleet = self.fleet.borrow();
            (
                fleet.find(target, key).cloned()?,
                fleet.hop_key.make(build, SystemTime::now())?,
            )
        };
        let nodes = match target {
            FleetTarget::Role(role) => self.by_role.lock().get(role).cloned(),
            FleetTarget::Live { .. } => None,
        };
        Some(Servers {
            group: nodes.or_else(|| self.server(&authority))?,
            token: Some(token),
        })
    }

    async fn nodes_later(
        &self,
        build: &BuildId,
        target: &FleetTarget,
        key: Option<&str>,
    ) -> Option<Servers> {
        let mut fleet = self.fleet.subscribe();
        let now = Instant::now();
        let until = now + fleet.borrow().wait_timeout(target, now);
        loop {
            // A directory that came before `subscribe` counts, too.
            if let Some(found) = self.nodes_now(build, target, key) {
                return Some(found);
            }
            tokio::time::timeout_at(until.into(), fleet.changed())
                .await
                .ok()?
                .ok()?;
        }
    }

    /// Relays go by this directory from here on.
    pub(super) fn set_fleet(&self, fleet: Fleet) {
        self.set_roles(fleet.roles());
        self.fleet.send_replace(fleet);
    }

    fn set_roles<'a>(&self, roles: impl Iterator<Item = (Role, &'a [Authority])>) {
        let mut known = self.by_role.lock();
        let mut next = HashMap::new();
        for (role, nodes) in roles {
            let upstream = fleet_upstream(nodes);
            let group = match known.get(&role) {
                Some(group) => group.successor(&upstream, &self.means),
                None => Group::new(&upstream, &self.means),
            };
            match group {
                Ok(group) => drop(next.insert(role, group)),
                Err(error) => {
                    tracing::error!(%role, %error, "the nodes of a role cannot be used as an upstream; relays to the role fail")
                }
            }
        }
        *known = next;
    }

    /// The one server of an address.
    fn server(&self, authority: &Authority) -> Option<Arc<Group>> {
        let mut servers = self.by_address.lock();
        if let Some(group) = servers.get(authority) {
            return Some(Arc::clone(group));
        }
        if servers.len() >= SERVERS_MAX {
            servers.retain(|_, group| Arc::strong_count(group) > 1);
        }
        let upstream = Upstream {
            // There is no other server.
            ejection: Ejection {
                failures: 0,
                ..Ejection::default()
            },
            ..fleet_upstream(std::slice::from_ref(authority))
        };
        let group = Group::new(&upstream, &self.means).ok()?;
        servers.insert(authority.clone(), Arc::clone(&group));
        Some(group)
    }

    /// Loads of the nodes of each role, and of all other servers together.
    pub(super) fn loads(&self) -> BTreeMap<String, Load> {
        let roles = self.by_role.lock();
        let roles = roles.iter().map(|(role, group)| (role, group.load()));
        let mut loads: BTreeMap<_, _> = roles
            .map(|(role, load)| (UpstreamRef::Role(*role).to_string(), load))
            .collect();
        let servers = self.by_address.lock();
        if !servers.is_empty() {
            let sum = loads.entry(ADDRESSES.to_owned()).or_default();
            servers.values().for_each(|group| *sum += group.load());
        }
        loads
    }

    /// Closes what is idle for too long.
    pub(super) fn sweep(&self) {
        let mut groups: Vec<_> = self.by_address.lock().values().cloned().collect();
        groups.extend(self.by_role.lock().values().cloned());
        groups.iter().for_each(|group| group.sweep());
    }
}

fn fleet_upstream(nodes: &[Authority]) -> Upstream {
    Upstream {
        addresses: nodes.iter().map(ToString::to_string).collect(),
        first_byte_timeout_ms: FIRST_BYTE_TIMEOUT_MS,
        ..Upstream::default()
    }
}

/// Time that the nodes which run a build's apps have for the head of a response where the decision does not say: what
/// the manifest allows holds on every hop.
pub(super) fn first_byte_of_apps(manifest: &Manifest) -> Duration {
    let handlers = manifest.handlers.values();
    let apps = handlers.filter(|handler| handler.world.is_app());
    let deadline_ms = apps.map(|app| app.limits.deadline_ms).max();
    // An app's request waits for a place as long as for its answer.
    let allowed = 2 * Duration::from_millis(deadline_ms.unwrap_or_default());
    (allowed + APP_MARGIN).max(Duration::from_millis(FIRST_BYTE_TIMEOUT_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_wire::{
        Digest,
        manifest::{Grants, Handler, Isolation, Limits, World},
    };

    fn app(deadline_ms: u64) -> Handler {
        Handler {
            component: Digest::of(b"app"),
            component_bytes: 3,
            world: World::App03,
            isolation: Isolation::PerRequest,
            limits: Limits {
                memory_bytes_max: 1,
                table_elements_max: 1,
                instances_max: 1,
                cpu_ms_max: 1,
                deadline_ms,
                response_bytes_max: 0,
                hostcall_bytes_max: 1,
                in_flight_max: 1,
                queue_max: 1,
                streams_max: None,
                outgoing_max: None,
            },
            grants: Grants::default(),
            environment: Default::default(),
            tenant: None,
            probe: None,
        }
    }

    #[test]
    fn relays_to_apps_wait_for_the_longest_deadline_of_the_build() {
        let text = br#"{"format":1,"handlers":{},"name":"n","routes":[]}"#;
        let mut manifest = Manifest::parse(text).unwrap();
        for (deadline_ms, seconds) in [(None, 60), (Some(30_000), 65), (Some(120_000), 245)] {
            let more = deadline_ms.map(|ms| (format!("app-{ms}"), app(ms)));
            manifest.handlers.extend(more);
            assert_eq!(first_byte_of_apps(&manifest), Duration::from_secs(seconds));
        }
    }
}
