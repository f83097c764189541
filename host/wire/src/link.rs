//! The Seed link: newline-delimited JSON both ways on one HTTP/2 stream (`POST /v1/link`).
//!
//! Unknown fields are ignored; a message of an unknown type is answered with a NACK of stage `protocol`.

use crate::{
    BuildId, ReleaseId,
    directory::{Delta, DirectoryFrame},
    manifest::Role,
    release::Stage,
    signature::Envelope,
    status::Addresses,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Most bytes of a line; a longer one is refused. Manifests travel as blobs, not here.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Milliseconds between two heartbeats of a node.
pub const HEARTBEAT_MS: u64 = 1_000;
/// Milliseconds of silence after which a node counts as gone.
pub const SILENCE_MS_MAX: u64 = 5_000;
/// Milliseconds after which the Seed lets a leaving node go, whoever has not acknowledged: more than a slow child
/// needs between two messages, and not more than an operator is ready to wait.
pub const LEAVE_MS_MAX: u64 = 5_000;

/// Messages of a node to the Seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromNode {
    /// First line of a link.
    Hello(Box<Hello>),
    /// Sign of life, sent every [`HEARTBEAT_MS`].
    Heartbeat(Heartbeat),
    /// PREPARED: everything of the release is here, verified, compiled, warm and on disk.
    Prepared {
        /// Release that the build was prepared for.
        release: ReleaseId,
        /// Milliseconds since `prepare` arrived.
        elapsed_ms: u64,
    },
    /// ACK: every child has switched.
    Ack {
        /// Release that ordered the switch.
        release: ReleaseId,
        /// Milliseconds since `activate` arrived.
        elapsed_ms: u64,
    },
    /// NACK: the release was refused and nothing changed.
    Nack {
        /// Release that was refused.
        release: ReleaseId,
        /// Stage at which the node refused.
        stage: Stage,
        /// Cause of the refusal, for people.
        reason: String,
        /// Milliseconds since the order arrived.
        elapsed_ms: u64,
    },
    /// Every child answers by this version of the directory, or a later one.
    DirectoryAck {
        /// Version of the directory.
        version: u64,
    },
    /// A change does not begin at the version that the node has: it asks for the whole directory.
    DirectoryWanted {
        /// Version that the node has.
        held: u64,
    },
    /// The node is about to drain. Answered by `left` when nobody sends it anything new any more.
    Leaving,
}

/// The node's identity and the builds that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Name of the node, unique in the fleet; its certificate says the same.
    pub node: String,
    /// Role of the node.
    pub role: Role,
    /// Version of the host.
    pub host_version: String,
    /// Target triple for which the node compiles components.
    pub target: String,
    /// Addresses at which the node is reached.
    pub addresses: Addresses,
    /// Number of child processes.
    pub children: u32,
    /// Builds that are ready to be switched to.
    pub held: Vec<BuildId>,
    /// The build that answers requests now.
    pub active: Option<BuildId>,
    /// The highest release that the node has taken.
    pub release: ReleaseId,
    /// The build that was ordered under that number. Absent: the node has taken no release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_build: Option<BuildId>,
    /// Region of the node; empty is nowhere in particular.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Weight of the node when keys are placed, relative to that of the others; 0 is one for each child.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub capacity: u32,
    /// Address at which other nodes reach each child, `http://host:port`. Live nodes only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub child_addresses: Vec<String>,
    /// Children that serve now.
    pub children_ready: u32,
    /// Whether the node has said `leaving` before, on a link that broke.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// State of a node, as its sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Children that serve now.
    pub children_ready: u32,
    /// Requests since the node's start.
    pub requests: u64,
    /// Responses with 5xx since the node's start.
    pub errors: u64,
    /// Handler traps, deadlines and out-of-memory since the node's start.
    pub traps: u64,
    /// End of the last child that does not serve, for people. Empty: all do, or are on their first start.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fault: String,
}

/// Messages of the Seed to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromSeed {
    /// Answer to `hello`, with the fleet's secret.
    Welcome {
        /// Secret of the fleet that authenticates a build id between its nodes, 64 hexadecimal digits.
        hop_key: String,
    },
    /// Get a build ready. Answer `prepared` or `nack`.
    Prepare {
        /// Release that the build is prepared for.
        release: ReleaseId,
        /// Id of the build; the manifest is the blob of that digest.
        build: BuildId,
        /// The signature that vouches for the build.
        envelope: Envelope,
    },
    /// Switch to a prepared build. Answer `ack` or `nack`.
    Activate {
        /// Release that orders the switch.
        release: ReleaseId,
        /// Id of the build.
        build: BuildId,
    },
    /// Forget a prepared build that will not be activated. No answer.
    Abandon {
        /// Release for which the build was prepared.
        release: ReleaseId,
    },
    /// The directory, or a part of it, for every node that opens a link or asks.
    Directory(DirectoryFrame),
    /// Changes since the version that the node has.
    DirectoryDelta(Delta),
    /// Answer to `leaving`: every node has acknowledged a directory that sends nothing new here, or had its time.
    Left,
}

/// Why a line is no message.
#[derive(Debug, thiserror::Error)]
pub enum LinkFrameError {
    /// The line is longer than [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes; {FRAME_BYTES_MAX} is the most")]
    TooLong(usize),
    /// The line has a type that this version does not know.
    #[error("message type `{0}` is not known here")]
    UnknownType(String),
    /// The line is not JSON, or a known type of the wrong shape.
    #[error("a frame cannot be read: {0}")]
    Syntax(#[from] serde_json::Error),
}

/// Writes one frame, newline included.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("a message has string keys");
    line.push(b'\n');
    line
}

/// Reads one frame, with or without its newline.
///
/// # Errors
/// An unknown type is told from a malformed frame, since it is answered and not fatal.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, LinkFrameError> {
    #[derive(Deserialize)]
    struct MessageTag {
        #[serde(rename = "type")]
        kind: String,
    }
    if line.len() > FRAME_BYTES_MAX {
        return Err(LinkFrameError::TooLong(line.len()));
    }
    serde_json::from_slice(line).map_err(|error| match serde_json::from_slice::<MessageTag>(line) {
        // A known type with an unknown value somewhere inside is malformed, not unknown.
        Ok(tag)
            if error
                .to_string()
                .starts_with(&format!("unknown variant `{}`", tag.kind)) =>
        {
            LinkFrameError::UnknownType(tag.kind)
        }
        _ => LinkFrameError::Syntax(error),
    })
}
