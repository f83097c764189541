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
/// Time that a child which has drained waits for others to take its channels; they wait for three seconds themselves.
pub const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// The environment variable in which a child finds its [`ChildConfig`] as JSON.
pub const CHILD_ENV: &str = "PROTOPLEX_CHILD";

/// Configuration of a child, from its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChildConfig {
    /// The node's name.
    pub node: String,
    /// The node's role.
    pub role: Role,
    /// 0 to `children - 1`; also the index of its own sockets.
    pub index: usize,
    /// Children of the node.
    pub children: usize,
    /// Threads of its runtime; 1 is single-threaded.
    pub threads: usize,
    /// The control socket.
    pub control_fd: i32,
    /// Listening sockets for plain HTTP, one for each child, all inherited.
    pub http_fds: Vec<i32>,
    /// Listening sockets for HTTPS, likewise.
    pub https_fds: Vec<i32>,
    /// Listening sockets on which other nodes relay to this one, one for each child and all on one port, all inherited.
    #[serde(default)]
    pub relay_fds: Vec<i32>,
    /// Listening sockets on which other nodes reach this one's children, one for each child and each on a port of its
    /// own, all inherited. Live nodes only.
    #[serde(default)]
    pub internal_fds: Vec<i32>,
    /// Where the node stands.
    #[serde(default)]
    pub region: String,
    /// A sealed memory file with certificates, keys and secrets as the parent read them.
    pub files_fd: i32,
    /// Instances at once; 0 is the default.
    #[serde(default)]
    pub instances_max: u32,
    /// Time that requests in flight may go on after a drain began, or after their build was switched away.
    pub drain_timeout_ms: u64,
    /// Settings for clients, from the node's configuration.
    pub ingress: Ingress,
}

/// From the parent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToChild {
    /// Native code of a component. One fd: a sealed memfd. Sent before the `prepare` that needs it, and only if
    /// this child has not had it for a build that it still holds.
    Native {
        /// The component it was compiled from.
        component: Digest,
    },
    /// Get a build ready. Two fds, both sealed memfds: the canonical manifest, and the asset pack (see
    /// [`asset_offsets`]). Answered by `prepared` or `failed`.
    Prepare {
        /// The release.
        release: ReleaseId,
        /// Id of the build.
        build: BuildId,
    },
    /// Switch. Answered by `activated` or `failed`.
    Activate {
        /// The release.
        release: ReleaseId,
        /// Id of the build.
        build: BuildId,
    },
    /// Forget a prepared build.
    Abandon {
        /// The release.
        release: ReleaseId,
        /// Id of the build.
        build: BuildId,
    },
    /// The secret of the fleet's internal hops, and its directory. One fd: a sealed memfd with a
    /// [`protoplex_wire::directory::Directory`] as JSON. Answered by `directory`.
    Directory {
        /// 64 hexadecimal digits.
        hop_key: String,
    },
    /// Changes of the directory. Answered by `directory`, or by `directory-wanted`.
    DirectoryDelta(Delta),
    /// Accept on the sockets of child `index` too.
    Adopt {
        /// The dead or unready child.
        index: usize,
    },
    /// Stop accepting on them.
    Disown {
        /// The child that serves again.
        index: usize,
    },
    /// Other certificates of the HTTPS port, and live secrets. One fd: a sealed memfd, as `files_fd` of [`ChildConfig`].
    Certificates,
    /// The secret under which sessions resume at every child of the node.
    Tickets {
        /// Epoch of the secret.
        epoch: u64,
        /// 64 hexadecimal digits.
        secret: String,
    },
    /// Stop accepting, finish what is in flight, answer `drained`, exit 0.
    Drain,
    /// Answer `metrics`.
    Metrics,
}

/// From a child.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromChild {
    /// First message: the runtime is up and the control socket is read.
    Started,
    /// The build is loaded and every handler's instance and probe went well.
    Prepared {
        /// The release.
        release: ReleaseId,
        /// The build.
        build: BuildId,
    },
    /// The build cannot be used, and nothing changed.
    Failed {
        /// The release.
        release: ReleaseId,
        /// The build.
        build: BuildId,
        /// Where.
        stage: Stage,
        /// Why.
        reason: String,
    },
    /// The build answers requests. After the first of these the child accepts connections.
    Activated {
        /// The release.
        release: ReleaseId,
        /// The build.
        build: BuildId,
    },
    /// Requests are relayed by this version of the directory.
    Directory {
        /// The version.
        version: u64,
    },
    /// A change did not fit what is held.
    DirectoryWanted,
    /// Every 250 ms, and the sign of life.
    Beat(Beat),
    /// One fd: a memfd with Prometheus text; every sample has the label `child`.
    Metrics,
    /// Nothing is in flight any more, or the deadline passed.
    Drained {
        /// Requests that were cut.
        cut: u64,
    },
}

/// Counters since the child's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Requests.
    pub requests: u64,
    /// Answers with 5xx.
    pub errors: u64,
    /// Traps, deadlines, out-of-memory.
    pub traps: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Open connections.
    pub connections: u64,
}

/// Assets start at multiples of this in the pack.
pub const ASSET_ALIGN: u64 = 64;

/// Where each asset blob of a build starts in its asset pack: all of them in the order of their digests, each at
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
