//! Messages of a parent and its children to each other: one JSON message a packet on a `SOCK_SEQPACKET` pair, with file
//! descriptors beside it where the variant says so.
//!
//! Large things travel as sealed memfds. An end that closes its side ends the other: a child without a parent
//! drains and exits; a parent without a child starts another.

use crate::ingress::Ingress;
use protoplex_wire::{
    BuildId, Digest, ReleaseId, directory::Delta, manifest::Role, release::Stage,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// A packet is refused above this many bytes.
pub const PACKET_BYTES_MAX: usize = 128 << 10;
/// Longest time that a drained child waits for others to take its channels. Longer than the three seconds that each of
/// them waits (`HANDOVER_DEADLINE_MS` of the channels).
pub const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// The environment variable in which a child finds its [`ChildConfig`] as JSON.
pub const CHILD_ENV: &str = "PROTOPLEX_CHILD";

/// Configuration of a child, given at its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChildConfig {
    /// The node's name.
    pub node: String,
    /// The node's role.
    pub role: Role,
    /// Index of the child, 0 to `children - 1`; also of its own sockets.
    pub index: usize,
    /// Number of children of the node.
    pub children: usize,
    /// Threads of the child's runtime; 1 is single-threaded.
    pub threads: usize,
    /// Descriptor of the control socket.
    pub control_fd: i32,
    /// Listening sockets for plain HTTP, one for each child, all inherited.
    pub http_fds: Vec<i32>,
    /// Listening sockets for HTTPS, one for each child, all inherited.
    pub https_fds: Vec<i32>,
    /// Listening sockets on which other nodes relay to this one, one for each child and all on one port, all inherited.
    #[serde(default)]
    pub relay_fds: Vec<i32>,
    /// Listening sockets on which other nodes reach this one's children, one for each child and each on a port of its
    /// own, all inherited. Live nodes only.
    #[serde(default)]
    pub internal_fds: Vec<i32>,
    /// Region in which the node stands; empty is nowhere in particular.
    #[serde(default)]
    pub region: String,
    /// Descriptor of a sealed memory file with certificates, keys and secrets as the parent read them.
    pub files_fd: i32,
    /// Instances of handlers that may exist at once; 0 is the default.
    #[serde(default)]
    pub instances_max: u32,
    /// Time that requests in flight may go on after a drain began, or after their build was switched away.
    pub drain_timeout_ms: u64,
    /// Settings for clients, from the node's configuration.
    pub ingress: Ingress,
}

/// Messages of the parent to a child.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToChild {
    /// Native code of a component. One fd: a sealed memfd. Sent before the `prepare` that needs it, and only if
    /// this child has not had it for a build that it still holds.
    Native {
        /// Component that the native code was compiled from.
        component: Digest,
    },
    /// Get a build ready. Two fds, both sealed memfds: the canonical manifest, and the asset pack (see
    /// [`asset_offsets`]). Answered by `prepared` or `failed`.
    Prepare {
        /// Release that the build is prepared for.
        release: ReleaseId,
        /// Id of the build.
        build: BuildId,
    },
    /// Switch to a prepared build. Answered by `activated` or `failed`.
    Activate {
        /// Release that orders the switch.
        release: ReleaseId,
        /// Id of the build.
        build: BuildId,
    },
    /// Forget a prepared build.
    Abandon {
        /// Release for which the build was prepared.
        release: ReleaseId,
        /// Id of the build.
        build: BuildId,
    },
    /// The secret behind build tokens, and the directory. One fd: a sealed memfd with a
    /// [`protoplex_wire::directory::Directory`] as JSON. Answered by `directory`.
    Directory {
        /// The fleet's secret, 64 hexadecimal digits.
        hop_key: String,
    },
    /// Changes of the directory. Answered by `directory`, or by `directory-wanted`.
    DirectoryDelta(Delta),
    /// Accept on the sockets of child `index` as well as your own.
    Adopt {
        /// Index of the dead or unready child.
        index: usize,
    },
    /// Stop accepting on the sockets of child `index`.
    Disown {
        /// Index of the child that serves again.
        index: usize,
    },
    /// Changed certificates of the HTTPS port, and live secrets. One fd: a sealed memfd, as `files_fd` of
    /// [`ChildConfig`].
    Certificates,
    /// Secret of TLS session tickets, under which sessions resume at every child of the node.
    Tickets {
        /// Epoch of the secret.
        epoch: u64,
        /// The secret, 64 hexadecimal digits.
        secret: String,
    },
    /// Stop accepting, finish what is in flight, answer `drained`, exit 0.
    Drain,
    /// Measure yourself. Answered by `metrics`.
    Metrics,
}

/// Messages of a child to the parent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromChild {
    /// First message: the runtime is up and the control socket is read.
    Started,
    /// The build is loaded and every handler's instance and probe went well.
    Prepared {
        /// Release that the build was prepared for.
        release: ReleaseId,
        /// Id of the build.
        build: BuildId,
    },
    /// The build cannot be used, and nothing changed.
    Failed {
        /// Release whose order failed.
        release: ReleaseId,
        /// Id of the build.
        build: BuildId,
        /// Stage at which the order failed.
        stage: Stage,
        /// Cause of the failure, for people.
        reason: String,
    },
    /// The build answers requests. After the first of these the child accepts connections.
    Activated {
        /// Release that ordered the switch.
        release: ReleaseId,
        /// Id of the build.
        build: BuildId,
    },
    /// Requests are relayed by this version of the directory from now on.
    Directory {
        /// Version of the directory.
        version: u64,
    },
    /// A [`ToChild::DirectoryDelta`] does not begin at the version that the child has; it needs the whole directory.
    DirectoryWanted,
    /// Sign of life, sent every 250 ms.
    Beat(Beat),
    /// Metrics of the child. One fd: a memfd with Prometheus text; every sample has the label `child`.
    Metrics,
    /// Nothing is in flight any more, or the deadline passed.
    Drained {
        /// Requests that the deadline cut.
        cut: u64,
    },
}

/// Counters since the child's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Requests that were answered.
    pub requests: u64,
    /// Responses with 5xx.
    pub errors: u64,
    /// Calls of handlers that ended by a trap, a deadline or lack of memory.
    pub traps: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Connections open now.
    pub connections: u64,
}

/// Alignment of assets in the pack, in bytes.
pub const ASSET_ALIGN: u64 = 64;

/// Offsets at which each asset blob of a build starts in its asset pack: all of them in the order of their digests, each at
/// the next multiple of [`ASSET_ALIGN`]. The last value is the pack's length.
pub fn asset_offsets(manifest: &protoplex_wire::Manifest) -> (BTreeMap<Digest, u64>, u64) {
    let mut sizes = BTreeMap::new();
    for asset in manifest.assets.values() {
        sizes.insert(asset.digest, asset.bytes);
        if let Some(gzip) = &asset.gzip {
            sizes.insert(gzip.digest, gzip.bytes);
        }
    }
    let mut end = 0_u64;
    let mut offsets = BTreeMap::new();
    for (digest, bytes) in sizes {
        offsets.insert(digest, end);
        end = (end + bytes).next_multiple_of(ASSET_ALIGN);
    }
    (offsets, end)
}
