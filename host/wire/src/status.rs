//! Answers of the Seed and the nodes to people and programs, and the order for a release.

use crate::{
    BuildId, Digest, Manifest, ReleaseId, manifest::Role, release::Stage, signature::Envelope,
};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

mod api;

pub use api::{ApiCode, ApiError};

/// Where a node is reached: URLs without a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Plain HTTP, `http://host:port`.
    pub http: String,
    /// HTTPS, `https://host:port`.
    pub https: String,
    /// Liveness and readiness.
    pub health: String,
    /// Metrics, status, drain, log; mutual TLS.
    pub meta: String,
    /// Plain HTTP for other nodes, `http://host:port`: here, and not on the public port, they are believed which build
    /// a request belongs to. Empty for a node of before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub internal: String,
}

/// `POST /v1/releases`: run a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseOrder {
    /// The build.
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

/// `POST /v1/rollback`: run an earlier build again. Answered like a release order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackOrder {
    /// The build; absent: the last promoted one that is not active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<BuildId>,
}

/// `POST /v1/adopt`: while the Seed holds, the build that its nodes run becomes its own. Answered like a release order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptOrder {
    /// The build. It has been uploaded and submitted, and a node that is here runs it.
    pub build: BuildId,
}

/// `POST /v1/blobs/missing`: which of these must be uploaded?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobsWanted {
    /// Digests that a build needs.
    pub digests: Vec<Digest>,
}

/// Answer to `POST /v1/blobs/missing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobsMissing {
    /// Digests that are not there yet, or no longer whole.
    pub missing: Vec<Digest>,
}

/// `POST /v1/gc`: remove what is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcOrder {
    /// Remove nothing, and say what would be.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer to `POST /v1/gc`: what was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Builds that can not be released again without another push.
    pub builds: Vec<BuildId>,
    /// Blobs of them, and such that are of no build.
    pub blobs: u64,
    /// Bytes of the blobs.
    pub bytes: u64,
    /// Things that stay.
    pub kept: Kept,
}

/// Things that the Seed's disk holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Builds that may be released.
    pub builds: u64,
    /// Blobs of them, and of pushes that may be under way.
    pub blobs: u64,
    /// Bytes of the blobs.
    pub bytes: u64,
}

/// Answer to `POST /v1/builds`: the build was checked and may be released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildAccepted {
    /// The build.
    pub build: BuildId,
    /// Name of the build.
    pub name: String,
    /// Time that the checks took.
    pub elapsed_ms: u64,
}

/// `GET /v1/builds/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildView {
    /// The signature that vouches for the build.
    pub envelope: Envelope,
    /// The manifest.
    pub manifest: Manifest,
}

/// One line of the answer to a release order: NDJSON, ends with `finished`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ReleaseEvent {
    /// The release began.
    Started {
        /// The release.
        release: ReleaseId,
        /// The build.
        build: BuildId,
        /// Names of the nodes that take part.
        nodes: Vec<String>,
    },
    /// A node answered.
    Node(NodeAnswer),
    /// All are prepared; the switch was ordered.
    Activating {
        /// The release.
        release: ReleaseId,
    },
    /// The release ended.
    Finished(ReleaseRecord),
}

/// A node's answer within a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAnswer {
    /// The node.
    pub node: String,
    /// The answer of the node.
    pub answer: Answer,
    /// By the node's clock, since the order arrived.
    pub elapsed_ms: u64,
}

/// PREPARED, ACK or NACK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Ready to switch.
    Prepared,
    /// Switched.
    Ack,
    /// Refused.
    Nack {
        /// Where.
        stage: Stage,
        /// Why.
        reason: String,
    },
    /// Said nothing until the deadline, or left.
    Missing,
}

/// The end of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Still going on.
    Running,
    /// Every node runs it.
    Promoted,
    /// The build before it runs again.
    Reverted,
}

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// The release.
    pub release: ReleaseId,
    /// Id of the build.
    pub build: BuildId,
    /// The build's name.
    pub name: String,
    /// The build before it.
    pub previous: Option<BuildId>,
    /// The end of the release.
    pub outcome: Outcome,
    /// Why it was reverted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Milliseconds since 1970, by the Seed's clock.
    pub started_unix_ms: u64,
    /// Time that the release took.
    pub elapsed_ms: u64,
    /// The last answer of every node.
    pub answers: Vec<NodeAnswer>,
    /// Nodes that the Seed knew when it was promoted, and that did not switch: each is brought along when it is back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<Away>,
    /// Roles of those of which no node switched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreached: Vec<Role>,
}

/// A node that a release has not reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// Name of the node.
    pub node: String,
    /// Role of the node.
    pub role: Role,
}

impl ReleaseRecord {
    /// Nodes that said that they switched.
    pub fn switched(&self) -> usize {
        let switched = |answer: &&NodeAnswer| answer.answer == Answer::Ack;
        self.answers.iter().filter(switched).count()
    }
}

/// `GET /v1/nodes`: one of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Name of the node.
    pub node: String,
    /// Role of the node.
    pub role: Role,
    /// Whether its link is up.
    pub connected: bool,
    /// Where it is reached.
    pub addresses: Addresses,
    /// Version of its host.
    pub host_version: String,
    /// Child processes.
    pub children: u32,
    /// Those that serve.
    pub children_ready: u32,
    /// Id of the build that the node runs.
    pub active: Option<BuildId>,
    /// Since the last heartbeat.
    pub heartbeat_age_ms: u64,
    /// Requests since its start.
    pub requests: u64,
    /// Answers with 5xx since its start.
    pub errors: u64,
    /// Handler traps, deadlines and out-of-memory since its start.
    pub traps: u64,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Where each child of a live node is reached by other nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub child_addresses: Vec<String>,
    /// The node is about to drain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// How the last child ended that does not serve. Empty: all do, or are on their first start.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fault: String,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedStatus {
    /// Version of its host.
    pub host_version: String,
    /// The fleet's build.
    pub active: Option<BuildId>,
    /// The last release.
    pub release: ReleaseId,
    /// A release that is going on.
    pub running: Option<ReleaseId>,
    /// Nodes whose link is up.
    pub nodes_connected: u32,
    /// Set while the Seed orders nothing by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// A node has taken a release that its Seed knows nothing of: the Seed was started from an older copy of its disk, or
/// lost it. It orders nothing by itself until an operator has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The node that said so; the one with the highest release, if there are several.
    pub node: String,
    /// The release that the node has taken.
    pub release: ReleaseId,
    /// The build that the node runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildId>,
    /// The last release that the Seed knew of.
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
