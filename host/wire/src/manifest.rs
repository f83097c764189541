//! The canonical manifest of a build: RFC 8785 JSON without floats. Its digest is the build's id.
//!
//! People write `builds/*.toml`; `protoplex push` turns that into this. A node trusts nothing here
//! before [`Manifest::parse`] and a checked signature.

use crate::{BuildId, Digest};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

mod check;
pub mod defaults;
mod fault;
mod findings;
mod grants;
mod live;
mod upstream;

pub use crate::role::Role;
pub use check::{ASSET_BYTES_MAX, COMPONENT_BYTES_MAX};
pub use fault::{
    AssetFault, EnvironmentFault, FaultKind, GrantFault, HandlerFault, LiveFault, ManifestFault,
    ManifestPath, NumberFault, PathSegment, ProbeFault, RouteFault, UnknownName, UpstreamFault,
};
pub use grants::Grants;
pub use live::{
    ITEM_BYTES, Live, LiveLimits, MESSAGE_UNIT_BYTES, Namespace, Overflow, Publish, Subscribe,
    message_cost,
};
pub use upstream::{
    Balance, Ejection, HealthCheck, ProxyProtocol, Retries, Upstream, UpstreamProtocol, UpstreamTls,
};

/// The only manifest format so far.
pub const FORMAT: u32 = 1;
/// Most bytes of a manifest; a larger one is refused: 10,000 routes fit.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// A build, as its canonical manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of the manifest: [`FORMAT`].
    pub format: u32,
    /// Name of the site, for people.
    pub name: String,
    /// Handlers, by name.
    pub handlers: BTreeMap<String, Handler>,
    /// Routes: which request goes to which handler.
    pub routes: Vec<Route>,
    /// Files that `asset` decisions name, by path (`/index.html`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub assets: BTreeMap<String, Asset>,
    /// Servers that `relay` decisions name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upstreams: BTreeMap<String, Upstream>,
    /// Channels and the live connections that use them.
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
    /// Digest of the `.wasm` component.
    pub component: Digest,
    /// Size of the component in bytes.
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
    /// Environment variables, by name: of apps, and of edge handlers that import WASI. They stand in every manifest,
    /// which operators and nodes read, so no secret belongs here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Namespace that the handler belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// A request that the handler must answer below 500 before the build takes traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// The world a handler is written against, told by its exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum World {
    /// `protoplex:edge/edge` with no import but `protoplex:*`: called synchronously.
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
    /// `protoplex:live/live`: events of live connections, without state of their own.
    #[serde(rename = "live")]
    Live,
    /// `protoplex:live/live-stateful`: events of live connections, with something to remember of each.
    #[serde(rename = "live-stateful")]
    LiveStateful,
}

impl World {
    /// Whether the handler decides on heads (and does not answer with streams).
    pub fn is_edge(self) -> bool {
        matches!(self, Self::Edge | Self::EdgeWasi)
    }

    /// Whether the handler answers requests with streams, as `wasi:http` has it.
    pub fn is_app(self) -> bool {
        matches!(self, Self::App02 | Self::App03)
    }

    /// Whether the handler is called for what happens on live connections.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::LiveStateful)
    }
}

impl fmt::Display for World {
    /// The word that serde writes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
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
    /// Several requests at once in one instance, which share its fate. For 0.3 apps, and for connections of stateful
    /// live handlers.
    Concurrent {
        /// Requests (or connections) that share an instance at once.
        concurrency: u32,
        /// Requests (or connections) after which the instance is replaced.
        requests_max: u64,
    },
}

/// Limits on what a handler may use up; the defaults are [`defaults::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of linear memory of one instance, all memories together.
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
    /// Requests that may wait for one of the `in_flight_max` permits in one child.
    pub queue_max: u32,
    /// Responses of an app that may be sent at once in one child; absent: [`defaults::STREAMS_PER_PLACE`] for each of
    /// `in_flight_max`. More are answered 503, so that streams which last (events, downloads by slow clients) keep no
    /// permit from requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams_max: Option<u32>,
    /// Requests that an app's guests may have open at once in one child; absent: [`defaults::OUTGOING_MAX`]. One
    /// instance has at most a quarter. No more idle connections than that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outgoing_max: Option<u32>,
}

/// A request made of every new instance before a build takes traffic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Path and query of a GET.
    pub path: String,
    /// Value of the header `Host`; [`defaults::PROBE_HOST`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A rule that sends requests of a role, host, path and method to a handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Role of the nodes that have the route.
    pub role: Role,
    /// Host: `example.com`, `*.example.com`, or absent for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Path: `/exact`, or `/prefix/*` (which `/prefix` matches too).
    pub path: String,
    /// Methods in upper case; empty is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Name of the handler.
    pub handler: String,
    /// Milliseconds between two reads of a request's body that somebody waits for; absent: the node's own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_timeout_ms: Option<u64>,
    /// Bytes a second that a request's body must bring while somebody waits for it, 0 for anything; absent: the node's
    /// own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes_per_s_min: Option<u32>,
}

/// A file of the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub bytes: u64,
    /// Value of the header `Content-Type`.
    pub content_type: String,
    /// The content by gzip, made at push; absent where that saves too little.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gzip: Option<EncodedAsset>,
}

/// A coded form of an asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodedAsset {
    /// Digest of the coded bytes.
    pub digest: Digest,
    /// Number of the coded bytes.
    pub bytes: u64,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The text has so many bytes, more than [`MANIFEST_BYTES_MAX`].
    #[error("the manifest has {0} bytes; {MANIFEST_BYTES_MAX} is the most")]
    TooLarge(usize),
    /// The text is not JSON, or not of this format.
    #[error("the manifest cannot be read: {0}")]
    Syntax(#[from] serde_json::Error),
    /// The text is JSON of this format, but not its one canonical form.
    #[error("the manifest is not in canonical form (RFC 8785)")]
    NotCanonical,
    /// The manifest contradicts itself; one line for each fault.
    #[error("{}", lines(.0))]
    Inconsistent(Vec<ManifestFault>),
}

fn lines(faults: &[ManifestFault]) -> String {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
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

    /// Writes the manifest in its canonical form.
    pub fn canonical(&self) -> Vec<u8> {
        serde_json_canonicalizer::to_vec(self).expect("a manifest has string keys and no floats")
    }

    /// Id of the build: the digest of the canonical manifest.
    pub fn id(&self) -> BuildId {
        Digest::of(&self.canonical())
    }

    /// Digests of all blobs that the build needs, with their sizes in bytes.
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
