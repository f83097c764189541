//! The canonical manifest of a build: RFC 8785 JSON without floats. Its digest is the build's id.
//!
//! People write `builds/*.toml`; `protoplex push` turns that into this. A node trusts nothing here
//! before [`Manifest::parse`] and a checked signature.

use crate::{BuildId, Digest};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

mod check;
mod live;
mod upstream;

pub use crate::role::Role;
pub use check::{ASSET_BYTES_MAX, COMPONENT_BYTES_MAX};
pub use live::{
    ITEM_BYTES, Live, LiveLimits, MESSAGE_UNIT_BYTES, Namespace, Overflow, Publish,
    RECEIVED_BURST_MAX, RECEIVED_PER_S_MAX, Subscribe, message_cost,
};
pub use upstream::{
    Balance, Ejection, HealthCheck, ProxyProtocol, Retries, Upstream, UpstreamProtocol, UpstreamTls,
};

/// The only format so far.
pub const FORMAT: u32 = 1;
/// A manifest is refused above this many bytes: 10,000 routes fit.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// A build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The site's name, for people.
    pub name: String,
    /// Handlers, by name.
    pub handlers: BTreeMap<String, Handler>,
    /// Which request goes to which handler.
    pub routes: Vec<Route>,
    /// Files that `asset` decisions name, by path (`/index.html`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub assets: BTreeMap<String, Asset>,
    /// Servers that `relay` decisions name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upstreams: BTreeMap<String, Upstream>,
    /// Channels and their connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
    /// Values that handlers read by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// A component with its grants and limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handler {
    /// The `.wasm` component.
    pub component: Digest,
    /// Size of the component.
    pub component_bytes: u64,
    /// World that the component exports.
    pub world: World,
    /// Lifetime of an instance.
    pub isolation: Isolation,
    /// Limits on what the handler may use up.
    pub limits: Limits,
    /// Permissions of the handler.
    #[serde(default)]
    pub grants: Grants,
    /// Environment variables, by name: of apps, and of edge handlers that import WASI. They stand in every manifest, which
    /// operators and nodes read, so no secret belongs here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The namespace it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// A request that must be answered below 500 before the build takes traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// The world a handler is written against, told by its exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum World {
    /// `protoplex:edge/edge` with no import but ours: called synchronously.
    #[serde(rename = "edge")]
    Edge,
    /// `protoplex:edge/edge` that also imports WASI: called asynchronously.
    #[serde(rename = "edge-wasi")]
    EdgeWasi,
    /// Exports `wasi:http/incoming-handler@0.2`.
    #[serde(rename = "app-0.2")]
    App02,
    /// Exports `wasi:http/handler@0.3`.
    #[serde(rename = "app-0.3")]
    App03,
    /// `protoplex:live/live`: connections that live long.
    #[serde(rename = "live")]
    Live,
    /// `protoplex:live/live-stateful`: the same, with something to remember of each connection.
    #[serde(rename = "live-stateful")]
    LiveStateful,
}

impl World {
    /// Whether it decides on heads (and not answers with streams).
    pub fn is_edge(self) -> bool {
        matches!(self, Self::Edge | Self::EdgeWasi)
    }

    /// Whether it answers requests with streams, as `wasi:http` has it.
    pub fn is_app(self) -> bool {
        matches!(self, Self::App02 | Self::App03)
    }

    /// Whether it is told what happens on connections.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::LiveStateful)
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edge => "edge",
            Self::EdgeWasi => "edge-wasi",
            Self::App02 => "app-0.2",
            Self::App03 => "app-0.3",
            Self::Live => "live",
            Self::LiveStateful => "live-stateful",
        })
    }
}

/// Lifetime of an instance, and the number of requests that share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Isolation {
    /// A fresh instance for every request.
    PerRequest,
    /// One request after another, up to `requests_max` of them.
    Shared {
        /// Requests after which the instance is replaced.
        requests_max: u64,
    },
    /// Several at once in one instance. They share its fate. 0.3 apps, and connections of stateful live handlers.
    Concurrent {
        /// Requests (or connections) at once.
        concurrency: u32,
        /// Requests (or connections) after which the instance is replaced.
        requests_max: u64,
    },
}

/// Limits on what a handler may use up. Every one has a default in `push`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Linear memory of one instance, all memories together.
    pub memory_bytes_max: u64,
    /// Elements of one table.
    pub table_elements_max: u64,
    /// Core instances in one component instance.
    pub instances_max: u32,
    /// CPU time of one request, in milliseconds. Once the head of an app's response is out, time in which its guest waits
    /// gives four times as much back: a stream is not cut for what it used over hours, and an endless loop is.
    pub cpu_ms_max: u64,
    /// Wall-clock time until the response head (apps), in milliseconds. Time in which an app waits for more of the
    /// request's body does not count.
    pub deadline_ms: u64,
    /// Bytes of a response's body: an inline one of an edge handler, a streamed one of an app (0: no limit).
    pub response_bytes_max: u64,
    /// Bytes that one host call may copy out of the guest.
    pub hostcall_bytes_max: u64,
    /// Requests at once in one child that have no response yet: of apps, and of edge handlers that import WASI. One client
    /// address has at most three quarters of them, as of the queue and the streams.
    pub in_flight_max: u32,
    /// Requests that may wait for one of these places in one child.
    pub queue_max: u32,
    /// Responses of an app that may be sent at once in one child; absent: four for each place. More are answered 503, so
    /// that streams which last (events, downloads by slow clients) keep no place from requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams_max: Option<u32>,
    /// Requests that an app's guests may have open at once in one child; absent: 256. One instance has at most a quarter.
    /// No more connections are kept for the next ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outgoing_max: Option<u32>,
}

/// Permissions of a handler. Absent means not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// Settings it may read; `*` is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// Upstreams it may relay to, built-in ones (`role:app`) included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relay: Vec<String>,
    /// Prefixes of assets it may serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<String>,
    /// App handlers it may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<String>,
    /// Hosts an app may send requests to: `host`, `host:port`, `*.host`, or an address. Private and
    /// loopback addresses only where named as addresses or by a name listed here with `!private`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outgoing: Vec<String>,
    /// Namespaces of channels that it may subscribe its connections to and publish in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Protocols other than `websocket` that a relayed connection may be upgraded to, and `connect`: CONNECT may be
    /// relayed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upgrades: Vec<String>,
}

/// A request made of every new instance before a build takes traffic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Path and query of a GET.
    pub path: String,
    /// `Host` of it; `probe.invalid` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// (role, host, path, method) → handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Nodes it holds on.
    pub role: Role,
    /// `example.com`, `*.example.com`, or absent for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `/exact`, or `/prefix/*` (which `/prefix` matches too).
    pub path: String,
    /// Upper-case methods; empty is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The handler's name.
    pub handler: String,
    /// Between two reads of a request's body that somebody waits for; the node's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_timeout_ms: Option<u64>,
    /// Bytes that a request's body must bring while somebody waits for it, 0 for anything; the node's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes_per_s_min: Option<u32>,
}

/// A file of the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// The content.
    pub digest: Digest,
    /// Size of the file.
    pub bytes: u64,
    /// The value of `Content-Type`.
    pub content_type: String,
    /// The content by gzip, made at push, where that is smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gzip: Option<Encoded>,
}

/// A coded form of an asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoded {
    /// The coded bytes.
    pub digest: Digest,
    /// Number of the coded bytes.
    pub bytes: u64,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Too large to look at.
    #[error("the manifest has {0} bytes; {MANIFEST_BYTES_MAX} is the most")]
    TooLarge(usize),
    /// Not the JSON that this format has.
    #[error("the manifest cannot be read: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Right JSON, but not in its one canonical form.
    #[error("the manifest is not in canonical form (RFC 8785)")]
    NotCanonical,
    /// The manifest contradicts itself; one line for each fault.
    #[error("{}", .0.join("\n"))]
    Inconsistent(Vec<String>),
}

impl Manifest {
    /// Reads and checks a canonical manifest.
    ///
    /// # Errors
    /// Says what is wrong and, for inconsistencies, every fault at once.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.canonical() != bytes {
            return Err(ManifestError::NotCanonical);
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// The canonical bytes.
    pub fn canonical(&self) -> Vec<u8> {
        serde_json_canonicalizer::to_vec(self).expect("a manifest has string keys and no floats")
    }

    /// The build's id.
    pub fn id(&self) -> BuildId {
        Digest::of(&self.canonical())
    }

    /// Every blob the build needs, with its size.
    pub fn blobs(&self) -> BTreeMap<Digest, u64> {
        let components = self
            .handlers
            .values()
            .map(|h| (h.component, h.component_bytes));
        let assets = self.assets.values().flat_map(|a| {
            [
                Some((a.digest, a.bytes)),
                a.gzip.as_ref().map(|g| (g.digest, g.bytes)),
            ]
            .into_iter()
            .flatten()
        });
        components.chain(assets).collect()
    }
}
