//! Responses of the Seed and the nodes to people and programs, and the orders of an operator.

use crate::{
    BuildId, Digest, Manifest, ReleaseId, manifest::Role, release::Stage, signature::Envelope,
};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

mod api;

pub use api::{ApiCode, ApiError};

/// URLs, without a path, at which a node is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Plain HTTP, `http://host:port`.
    pub http: String,
    /// HTTPS, `https://host:port`.
    pub https: String,
    /// Liveness and readiness, `http://host:port`.
    pub health: String,
    /// Metrics, status, drain and log by mutual TLS, `https://host:port`.
    pub meta: String,
    /// Plain HTTP for other nodes, `http://host:port`: here, and not on the public port, they are believed which build
    /// a request belongs to. Empty for a node of a version without it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub internal: String,
}

/// Body of `POST /v1/releases`: the order to run a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseOrder {
    /// Id of the build to run.
    pub build: BuildId,
    /// The build that must be active now (`null`: none may be), or the order is refused. Absent: whatever is.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub made_against: Option<Option<BuildId>>,
}

/// Tells a field that is there and `null` from one that is absent.
fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<BuildId>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Body of `POST /v1/rollback`: the order to run an earlier build again. Answered like a release order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackOrder {
    /// Id of the build to run; absent: the last promoted one that is not active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<BuildId>,
}

/// Body of `POST /v1/adopt`: while the Seed holds, the order that the build which its nodes run becomes its own.
/// Answered like a release order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptOrder {
    /// Id of the build. It has been uploaded and submitted, and a connected node runs it.
    pub build: BuildId,
}

/// Body of `POST /v1/blobs/missing`: the question which blobs must be uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobsWanted {
    /// Digests that a build needs.
    pub digests: Vec<Digest>,
}

/// Response to `POST /v1/blobs/missing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobsMissing {
    /// Digests of blobs that the Seed does not have, or no longer whole.
    pub missing: Vec<Digest>,
}

/// Body of `POST /v1/gc`: the order to remove what is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcOrder {
    /// Whether nothing is removed, and the response only says what would be.
    #[serde(default)]
    pub dry_run: bool,
}

/// Response to `POST /v1/gc`: what was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Builds that can not be released again without another push.
    pub builds: Vec<BuildId>,
    /// Number of blobs of those builds, and of blobs that are of no build.
    pub blobs: u64,
    /// Bytes of those blobs.
    pub bytes: u64,
    /// Totals of what stays on the Seed's disk.
    pub kept: KeptTotals,
}

/// Totals of what the Seed's disk holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTotals {
    /// Number of builds that may be released.
    pub builds: u64,
    /// Number of blobs of those builds, and of pushes that may be under way.
    pub blobs: u64,
    /// Bytes of those blobs.
    pub bytes: u64,
}

/// Response to `POST /v1/builds`: the build was checked and may be released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildAccepted {
    /// Id of the build.
    pub build: BuildId,
    /// Name of the build.
    pub name: String,
    /// Milliseconds that the checks took.
    pub elapsed_ms: u64,
}

/// Response to `GET /v1/builds/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildView {
    /// The signature that vouches for the build.
    pub envelope: Envelope,
    /// The build's manifest.
    pub manifest: Manifest,
}

/// One line of the response to a release order: NDJSON that ends with `finished`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ReleaseEvent {
    /// The release began.
    Started {
        /// Number of the release.
        release: ReleaseId,
        /// Id of the build that it runs.
        build: BuildId,
        /// Names of the nodes that take part.
        nodes: Vec<String>,
    },
    /// A node answered an order of the release.
    Node(NodeAnswer),
    /// All nodes are prepared, and the switch was ordered.
    Activating {
        /// Number of the release.
        release: ReleaseId,
    },
    /// The release ended.
    Finished(ReleaseRecord),
}

/// A node's answer within a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAnswer {
    /// Name of the node.
    pub node: String,
    /// The answer of the node.
    pub answer: AnswerKind,
    /// Milliseconds since the order arrived, by the node's clock.
    pub elapsed_ms: u64,
}

/// Kind of a node's answer to an order: PREPARED, ACK, NACK, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum AnswerKind {
    /// PREPARED: the node is ready to switch.
    Prepared,
    /// ACK: the node has switched.
    Ack,
    /// NACK: the node refused the order.
    Nack {
        /// Stage at which the node refused.
        stage: Stage,
        /// Cause of the refusal, for people.
        reason: String,
    },
    /// The node said nothing until the deadline, or left.
    Missing,
}

/// Outcome of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseOutcome {
    /// The release still goes on.
    Running,
    /// Every node runs the build.
    Promoted,
    /// The build before the release runs again.
    Reverted,
}

/// Record of a release in the Seed's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// Number of the release.
    pub release: ReleaseId,
    /// Id of the build.
    pub build: BuildId,
    /// Name of the build.
    pub name: String,
    /// Id of the build that was active before; absent: none was.
    pub previous: Option<BuildId>,
    /// Outcome of the release.
    pub outcome: ReleaseOutcome,
    /// Cause of a revert, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time when the release began: milliseconds since 1970, by the Seed's clock.
    pub started_unix_ms: u64,
    /// Milliseconds that the release took.
    pub elapsed_ms: u64,
    /// The last answer of every node.
    pub answers: Vec<NodeAnswer>,
    /// Nodes that the Seed knew when the release was promoted, and that did not switch: each is brought along when it
    /// is back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<AwayNode>,
    /// Roles of those nodes, where no node of the role switched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreached: Vec<Role>,
}

/// A node that a release has not reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwayNode {
    /// Name of the node.
    pub node: String,
    /// Role of the node.
    pub role: Role,
}

impl ReleaseRecord {
    /// Number of nodes that said that they switched.
    pub fn switched(&self) -> usize {
        let switched = |answer: &&NodeAnswer| answer.answer == AnswerKind::Ack;
        self.answers.iter().filter(switched).count()
    }
}

/// A node, as `GET /v1/nodes` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Name of the node.
    pub node: String,
    /// Role of the node.
    pub role: Role,
    /// Whether the node's link is up.
    pub connected: bool,
    /// Addresses at which the node is reached.
    pub addresses: Addresses,
    /// Version of the node's host.
    pub host_version: String,
    /// Number of child processes.
    pub children: u32,
    /// Number of child processes that serve.
    pub children_ready: u32,
    /// Id of the build that the node runs.
    pub active: Option<BuildId>,
    /// Milliseconds since the last heartbeat.
    pub heartbeat_age_ms: u64,
    /// Requests since the node's start.
    pub requests: u64,
    /// Responses with 5xx since the node's start.
    pub errors: u64,
    /// Handler traps, deadlines and out-of-memory since the node's start.
    pub traps: u64,
    /// Region of the node; empty is nowhere in particular.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Address at which other nodes reach each child of a live node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub child_addresses: Vec<String>,
    /// Whether the node is about to drain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// End of the last child that does not serve, for people. Empty: all do, or are on their first start.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fault: String,
}

/// Response to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedStatus {
    /// Version of the Seed's host.
    pub host_version: String,
    /// Id of the fleet's build.
    pub active: Option<BuildId>,
    /// Number of the last release.
    pub release: ReleaseId,
    /// Number of the release that is going on.
    pub running: Option<ReleaseId>,
    /// Number of nodes whose link is up.
    pub nodes_connected: u32,
    /// The hold; set while the Seed orders nothing by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// A hold: a node has taken a release that its Seed knows nothing of, since the Seed was started from an older copy of
/// its disk, or lost it. The Seed orders nothing by itself until an operator has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Name of the node that said so; of the one with the highest release, if there are several.
    pub node: String,
    /// Number of the release that the node has taken.
    pub release: ReleaseId,
    /// Id of the build that the node runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildId>,
    /// Number of the last release that the Seed knew of.
    pub known: ReleaseId,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            release,
            known,
            ..
        } = self;
        let runs = match &self.build {
            Some(build) => format!(" and runs build {}", build.short()),
            None => String::new(),
        };
        write!(
            f,
            "node {node} has taken release {release}{runs}, and this Seed, which knows releases up to {known}, has no \
             record of that: its disk is an older copy, or was lost. No node is ordered anything until an operator \
             decides: `protoplex adopt` makes what the nodes run the Seed's own, `protoplex push` and \
             `protoplex rollback` release another build"
        )
    }
}
