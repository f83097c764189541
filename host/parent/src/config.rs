//! A node's configuration: a JSON file that `up` (or an operator) writes.

use protoplex_control::ingress::Ingress;
use protoplex_fleet::FleetIdentity;
use protoplex_wire::manifest::Role;
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, path::PathBuf};

/// Settings of a node. They are read once, at start, before anything binds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Unique in the fleet, for example `proxy-1`.
    pub name: String,
    /// What the node does in the fleet.
    pub role: Role,
    /// Blobs, last good build, fence. Owned by this node alone.
    pub data: PathBuf,
    /// Cache of native code, shared by the nodes of one machine and user.
    pub native: PathBuf,
    /// `https://host:port` of the Seed.
    pub seed: String,
    /// PEM of the fleet's authority.
    pub ca: PathBuf,
    /// PEM of this node's certificate (SAN `localhost`, its addresses, and URI `protoplex://node/<role>/<name>`).
    pub cert: PathBuf,
    /// PEM of the key of this node's certificate.
    pub key: PathBuf,
    /// PEM of the HTTPS port's certificate.
    pub tls_cert: PathBuf,
    /// PEM of the key of the HTTPS port's certificate.
    pub tls_key: PathBuf,
    /// Public keys of release keys whose builds may run here, 64 hexadecimal digits each.
    pub release_keys: Vec<String>,
    /// Address that all ports bind.
    pub bind: IpAddr,
    /// Address that the public ports, `http_port` and `https_port`, bind instead, and `health_port`, which says no more
    /// than whether the node serves: `::` takes IPv4, too. Other nodes come by `bind` where this is every address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_bind: Option<IpAddr>,
    /// Port of plain HTTP for clients; 0 is any free port.
    pub http_port: u16,
    /// Port of HTTPS for clients; 0 is any free port.
    pub https_port: u16,
    /// Port of liveness and readiness for load balancers; 0 is any free port.
    pub health_port: u16,
    /// Port of status, metrics and logs for members of the fleet; 0 is any free port.
    pub meta_port: u16,
    /// Child processes; at least 2, so that one can adopt another's sockets.
    pub children: usize,
    /// Threads of each child; 1 for all roles but app.
    pub threads: usize,
    /// Port on which other nodes relay to this one; 0 is any free port.
    #[serde(default)]
    pub relay_port: u16,
    /// Roles that take keys: first of the ports on which other nodes reach each child, one after another; 0 is any free
    /// ones.
    #[serde(default)]
    pub internal_port: u16,
    /// Where the node stands; nodes relay to their own region first. Empty is nowhere in particular.
    #[serde(default)]
    pub region: String,
    /// The node's share of the keys, against that of other nodes that take some; 0 is one for each child.
    #[serde(default)]
    pub capacity: u32,
    /// Instances that each child may have at once, of all handlers and of two builds at peak; 0 is 1,000.
    #[serde(default)]
    pub instances_max: u32,
    /// A file with who may publish by HTTP and the key of subscription tokens, `{"api_token":…,"token_key":…}`; without it
    /// nobody may, and no token is good.
    #[serde(default)]
    pub secrets: Option<PathBuf>,
    /// Bytes of native code that the cache keeps, the least recently used going first; 0 is 4 GiB.
    #[serde(default)]
    pub native_bytes_max: u64,
    /// How long requests in flight may go on after a drain began.
    pub drain_timeout_ms: u64,
    /// What stands between clients and handlers; all of it may be left out.
    #[serde(default)]
    pub ingress: Ingress,
}

impl NodeConfig {
    /// Files by which the node shows other members who it is.
    pub fn identity(&self) -> FleetIdentity {
        FleetIdentity {
            ca: self.ca.clone(),
            certificate: self.cert.clone(),
            key: self.key.clone(),
        }
    }
}
