//! Parts of a node for tests, without a process and without a Seed: what is said is written down.

use crate::{
    builds::{Builder, ReadyBuild},
    child_files::FileKeeper,
    leaving::{LeaveTimes, Leaving},
    native_files::NativeFiles,
    node_status::NodeProfile,
    releases::{BuildMade, Releases},
    seed_voice::{SeedLink, SeedVoice},
    store::Store,
    supervisor::{OutgoingMessage, Supervisor},
    turn_away::{NewcomerSockets, Newcomers},
};
use protoplex_control::{
    messages::{ChildConfig, ToChild},
    socket::sealed_memfd,
};
use protoplex_native::NativeCache;
use protoplex_wire::{BuildId, Role, link::FromNode, signature::Envelope, status::Addresses};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Messages that a child or the Seed may have waiting in tests.
pub(crate) const QUEUE_MESSAGES: usize = 99;

/// A link that writes down what the Seed is told.
pub(crate) struct RecordedLink(mpsc::Sender<FromNode>);

impl RecordedLink {
    /// A link whose queue has room for `messages_max`, and where they come out.
    pub(crate) fn new(messages_max: usize) -> (Self, mpsc::Receiver<FromNode>) {
        let (link, said) = mpsc::channel(messages_max);
        (Self(link), said)
    }
}

impl SeedLink for RecordedLink {
    fn try_send(&self, message: &FromNode) -> bool {
        self.0.try_send(message.clone()).is_ok()
    }
}

/// A voice that is connected, and what it says.
pub(crate) fn connected_voice() -> (SeedVoice, mpsc::Receiver<FromNode>) {
    let (link, said) = RecordedLink::new(QUEUE_MESSAGES);
    let mut seed = SeedVoice::default();
    seed.connected(link);
    (seed, said)
}

/// What the Seed was told since the last look.
pub(crate) fn said(messages: &mut mpsc::Receiver<FromNode>) -> Vec<FromNode> {
    std::iter::from_fn(|| messages.try_recv().ok()).collect()
}

/// What a child was told since the last look, in short: `prepare`, `activate`, ….
pub(crate) fn told(messages: &mut mpsc::Receiver<OutgoingMessage>) -> Vec<&'static str> {
    let told = std::iter::from_fn(|| messages.try_recv().ok());
    told.map(|sent| match sent.message {
        ToChild::Native { .. } => "native",
        ToChild::Prepare { .. } => "prepare",
        ToChild::Activate { .. } => "activate",
        ToChild::Abandon { .. } => "abandon",
        ToChild::Directory { .. } => "directory",
        ToChild::DirectoryDelta(_) => "directory-delta",
        ToChild::Adopt { .. } => "adopt",
        ToChild::Disown { .. } => "disown",
        ToChild::Certificates => "certificates",
        ToChild::Tickets { .. } => "tickets",
        ToChild::Drain => "drain",
        ToChild::Metrics => "metrics",
    })
    .collect()
}

/// A supervisor of children that do not run.
pub(crate) fn supervisor(children: usize) -> Supervisor {
    let config = ChildConfig {
        node: "node".into(),
        role: Role::Proxy,
        index: 0,
        children,
        threads: 1,
        control_fd: -1,
        http_fds: Vec::new(),
        https_fds: Vec::new(),
        files_fd: -1,
        instances_max: 0,
        drain_timeout_ms: 0,
        region: String::new(),
        relay_fds: Vec::new(),
        internal_fds: Vec::new(),
        ingress: Default::default(),
    };
    let files = FileKeeper::nothing();
    Supervisor::new(config, files, Arc::default(), TaskTracker::new()).0
}

/// A node at no address.
pub(crate) fn profile() -> NodeProfile {
    NodeProfile {
        name: "node".into(),
        role: Role::Proxy,
        region: String::new(),
        addresses: Addresses::default(),
        child_addresses: Vec::new(),
        capacity: 0,
    }
}

/// A node that stays, and has no time once it leaves.
pub(crate) fn leaving() -> Leaving {
    Leaving::new(LeaveTimes {
        drain_delay: Duration::ZERO,
        drain_timeout: Duration::ZERO,
    })
}

/// Newcomers of a node without sockets.
pub(crate) fn newcomers() -> Newcomers {
    let sockets = NewcomerSockets {
        plain: Vec::new(),
        others: Vec::new(),
    };
    Newcomers::new(sockets, TaskTracker::new())
}

/// Releases of a node whose files are in `dir`, and that has no Seed to fetch from. Returns also where the builds come out
/// that are made ready.
pub(crate) fn releases(dir: &Path) -> (Releases, mpsc::Receiver<BuildMade>) {
    let builder = Builder {
        dir: dir.into(),
        native: NativeFiles::new(NativeCache::open(&dir.join("native"), 0).unwrap()),
        trusted: Vec::new(),
        seed: None,
    };
    Releases::new(Store::open(dir).unwrap(), builder, TaskTracker::new())
}

/// A build without handlers, routes and assets, of that name.
pub(crate) fn ready_build(name: &str) -> Arc<ReadyBuild> {
    let text = format!(r#"{{"format":1,"handlers":{{}},"name":"{name}","routes":[]}}"#);
    let id = BuildId::of(text.as_bytes());
    let file = || sealed_memfd("test", |_| Ok(())).unwrap();
    let (key_id, sig) = (String::new(), String::new());
    Arc::new(ReadyBuild {
        id,
        envelope: Envelope {
            build: id,
            key_id,
            sig,
        },
        manifest_fd: file(),
        pack_fd: file(),
        native: BTreeMap::new(),
    })
}
