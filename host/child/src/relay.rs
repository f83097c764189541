//! Relaying: the servers of upstreams and of the fleet, and what a client hears when there is no response.

use super::reply;
use http::{StatusCode, uri::Authority};
use parking_lot::Mutex;
use protoplex_http::{BodyError, Reply};
use protoplex_upstream::{Group, Load, Outbound, RelayError, UpstreamContext};
use protoplex_wire::{
    Manifest, UpstreamRef,
    manifest::{Ejection, Role, Upstream, defaults},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// Servers that no upstream of a build names: nodes of the fleet, and addresses that grants name. Above this the
/// unused ones are forgotten.
const SERVERS_MAX: usize = 1_024;
/// Twice the deadline of apps that say nothing of it: they may queue for as long, too.
const FIRST_BYTE_TIMEOUT_MS: u64 = 2 * defaults::APP_DEADLINE_MS;
/// Added for the node that runs the app: its own answer for a late app should come first.
const APP_MARGIN: Duration = Duration::from_secs(5);

/// Name in metrics for servers that no upstream names.
const ADDRESSES: &str = "(addresses)";

/// The servers of a child.
pub(super) struct Relay {
    pub(super) means: Arc<UpstreamContext>,
    servers: Mutex<HashMap<Authority, Arc<Group>>>,
    /// Nodes of the fleet that a role's requests go to.
    roles: Mutex<HashMap<Role, Arc<Group>>>,
}

impl Relay {
    pub(super) fn new(means: UpstreamContext) -> Self {
        Self {
            means: Arc::new(means),
            servers: Mutex::default(),
            roles: Mutex::default(),
        }
    }

    /// The directory has changed.
    pub(super) fn set_roles<'a>(&self, roles: impl Iterator<Item = (Role, &'a [Authority])>) {
        let mut known = self.roles.lock();
        let mut next = HashMap::new();
        for (role, nodes) in roles {
            let upstream = fleet_upstream(nodes);
            let group = match known.get(&role) {
                Some(group) => group.successor(&upstream, &self.means),
                None => Group::new(&upstream, &self.means),
            };
            match group {
                Ok(group) => drop(next.insert(role, group)),
                Err(error) => tracing::error!(%role, %error, "nodes cannot be relayed to"),
            }
        }
        *known = next;
    }

    /// The nodes of a role.
    pub(super) fn role(&self, role: Role) -> Option<Arc<Group>> {
        self.roles.lock().get(&role).cloned()
    }

    /// A single server, by its address.
    pub(super) fn server(&self, authority: &Authority) -> Option<Arc<Group>> {
        let mut servers = self.servers.lock();
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
        let roles = self.roles.lock();
        let roles = roles.iter().map(|(role, group)| (role, group.load()));
        let mut loads: BTreeMap<_, _> = roles
            .map(|(role, load)| (UpstreamRef::Role(*role).to_string(), load))
            .collect();
        let servers = self.servers.lock();
        if !servers.is_empty() {
            let sum = loads.entry(ADDRESSES.to_owned()).or_default();
            servers.values().for_each(|group| *sum += group.load());
        }
        loads
    }

    /// Closes what is idle for too long.
    pub(super) fn sweep(&self) {
        let mut groups: Vec<_> = self.servers.lock().values().cloned().collect();
        groups.extend(self.roles.lock().values().cloned());
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

/// Sends the request and answers with the response, or with 502, 503 or 504.
pub(super) async fn send(group: &Arc<Group>, outbound: Outbound, request_id: &str) -> Reply {
    let sent = if outbound.method == http::Method::CONNECT {
        Box::pin(group.tunnel(outbound)).await
    } else {
        group.send(outbound).await
    };
    sent.unwrap_or_else(|error| {
        tracing::warn!(request = request_id, %error, "a relay failed");
        match error {
            RelayError::Unavailable(_) => reply::unavailable(request_id),
            RelayError::Broken { .. } => reply::status(StatusCode::BAD_GATEWAY, request_id),
            RelayError::TooSlow { .. } => reply::status(StatusCode::GATEWAY_TIMEOUT, request_id),
            RelayError::Client(BodyError::TooSlow) => {
                reply::status(StatusCode::REQUEST_TIMEOUT, request_id)
            }
            RelayError::Client(_) => reply::status(StatusCode::BAD_REQUEST, request_id),
        }
    })
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
    fn a_hop_to_apps_leaves_room_for_the_longest_deadline_of_the_build() {
        let text = br#"{"format":1,"handlers":{},"name":"n","routes":[]}"#;
        let mut manifest = Manifest::parse(text).unwrap();
        for (deadline_ms, seconds) in [(None, 60), (Some(30_000), 65), (Some(120_000), 245)] {
            let more = deadline_ms.map(|ms| (format!("app-{ms}"), app(ms)));
            manifest.handlers.extend(more);
            assert_eq!(first_byte_of_apps(&manifest), Duration::from_secs(seconds));
        }
    }
}
