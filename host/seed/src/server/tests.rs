//! A real Seed on loopback, by mutual TLS, with nodes that a test plays.

use super::{ComponentCheck, run};
use crate::config::SeedConfig;
use protoplex_fleet::authority::{Authority, IssuedCertificate, release_key};
use protoplex_seed_client::{ClientError, LinkReceiver, LinkSender, ReleaseEvents, SeedClient};
use protoplex_wire::{
    BuildId, Manifest, ReleaseId,
    link::{FromNode, FromSeed, Heartbeat, Hello},
    manifest::{FORMAT, Handler, Role},
    release::Stage,
    signature::Envelope,
    status::{Addresses, ReleaseEvent, ReleaseOrder, ReleaseRecord},
};
use std::{collections::BTreeMap, net::Ipv4Addr, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

mod access;
mod blobs;
mod releases;

/// Timeout for what never happens; nothing is measured by it.
const NEVER: Duration = Duration::from_secs(60);

/// Accepts every component, as there is none in these builds.
struct TrustingCheck;

impl ComponentCheck for TrustingCheck {
    async fn check(&self, _: &str, _: &Handler, _: &Path) -> Result<(), (Stage, String)> {
        Ok(())
    }
}

/// A Seed in this process, on a directory that outlives it.
struct TestSeed {
    dir: TempDir,
    timeout: Duration,
    url: String,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl TestSeed {
    async fn start(timeout: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (url, stop, task) = start(&dir, timeout).await;
        Self {
            dir,
            timeout,
            url,
            stop,
            task,
        }
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap().unwrap();
    }

    async fn restart(&mut self) {
        self.stop().await;
        (self.url, self.stop, self.task) = start(&self.dir, self.timeout).await;
    }

    fn authority(&self) -> Authority {
        Authority::open_or_create(&self.dir.path().join("pki")).unwrap()
    }

    fn client(&self, who: &IssuedCertificate) -> SeedClient {
        SeedClient::new(&self.url, &self.authority().identity(who)).unwrap()
    }

    fn operator(&self) -> SeedClient {
        self.client(&self.authority().issue_operator("me").unwrap())
    }

    fn node_client(&self, name: &str) -> SeedClient {
        self.client(&self.authority().issue_node(name, Role::App, &[]).unwrap())
    }

    async fn node(&self, name: &str) -> TestNode {
        self.node_that_held(name, ReleaseId::default()).await
    }

    async fn node_that_held(&self, name: &str, release: ReleaseId) -> TestNode {
        let client = self.node_client(name);
        let (sender, receiver) = client.link(hello(name, release)).await.unwrap();
        let beat = sender.clone();
        // Alive, whatever else it does not say.
        let mut beats = JoinSet::new();
        beats.spawn(async move {
            while beat.send(&FromNode::Heartbeat(Heartbeat::default())).await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let mut node = TestNode {
            sender,
            receiver,
            _beats: beats,
        };
        assert!(matches!(node.hear().await, FromSeed::Welcome { .. }));
        node
    }

    /// Uploads and submits a build of that name.
    async fn build(&self, name: &str) -> BuildId {
        let manifest = manifest(name);
        let (operator, id) = (self.operator(), manifest.id());
        let content = manifest.canonical().into();
        operator.put_blob(id, content, |_| ()).await.unwrap();
        operator.submit(&self.sign(id)).await.unwrap();
        id
    }

    fn sign(&self, build: BuildId) -> Envelope {
        Envelope::sign(build, &release_key(&self.dir.path().join("keys")).unwrap())
    }

    async fn order(&self, build: BuildId) -> Result<ReleaseEvents, ClientError> {
        let made_against = None;
        let order = ReleaseOrder {
            build,
            made_against,
        };
        self.operator().release(&order).await
    }
}

async fn start(
    dir: &TempDir,
    timeout: Duration,
) -> (String, CancellationToken, JoinHandle<anyhow::Result<()>>) {
    let authority = Authority::open_or_create(&dir.path().join("pki")).unwrap();
    let issued = authority.issue_seed(&[]).unwrap();
    start_as(dir, timeout, issued).await
}

/// Starts a Seed with the certificate `issued`, whoever it is of.
async fn start_as(
    dir: &TempDir,
    timeout: Duration,
    issued: IssuedCertificate,
) -> (String, CancellationToken, JoinHandle<anyhow::Result<()>>) {
    let authority = Authority::open_or_create(&dir.path().join("pki")).unwrap();
    let key = release_key(&dir.path().join("keys")).unwrap();
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap();
    let config = SeedConfig {
        data: dir.path().join("data"),
        ca: authority.ca(),
        cert: issued.cert,
        key: issued.key,
        release_keys: vec![hex::encode(key.verifying_key().as_bytes())],
        bind: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        prepare_timeout_ms: timeout_ms,
        activate_timeout_ms: timeout_ms,
        retention: Default::default(),
        native_bytes_max: 0,
    };
    let stop = CancellationToken::new();
    let (ready, address) = oneshot::channel();
    let running = run(config, TrustingCheck, stop.clone(), |address| {
        ready.send(address).unwrap();
    });
    let task = tokio::spawn(running);
    let url = format!("https://{}", address.await.unwrap());
    (url, stop, task)
}

/// A node's end of its link. The node says what the test says, and a heartbeat now and then.
struct TestNode {
    sender: LinkSender,
    receiver: LinkReceiver,
    /// Tasks that send heartbeats; they end with the node.
    _beats: JoinSet<()>,
}

impl TestNode {
    /// Receives the next message that is no directory.
    async fn hear(&mut self) -> FromSeed {
        loop {
            let message = tokio::time::timeout(NEVER, self.receiver.next()).await;
            match message.unwrap().unwrap().unwrap() {
                FromSeed::Directory { .. } | FromSeed::DirectoryDelta(_) => {}
                message => return message,
            }
        }
    }

    async fn hear_prepare(&mut self) -> (ReleaseId, BuildId) {
        match self.hear().await {
            FromSeed::Prepare { release, build, .. } => (release, build),
            other => panic!("{other:?}, and not `prepare`"),
        }
    }

    async fn hear_activate(&mut self) -> (ReleaseId, BuildId) {
        match self.hear().await {
            FromSeed::Activate { release, build } => (release, build),
            other => panic!("{other:?}, and not `activate`"),
        }
    }

    async fn prepared(&self, release: ReleaseId) {
        let elapsed_ms = 1;
        let message = FromNode::Prepared {
            release,
            elapsed_ms,
        };
        assert!(self.sender.send(&message).await);
    }

    async fn ack(&self, release: ReleaseId) {
        let elapsed_ms = 1;
        let message = FromNode::Ack {
            release,
            elapsed_ms,
        };
        assert!(self.sender.send(&message).await);
    }

    /// Receives an order and does it, once.
    async fn follow(&mut self) -> (ReleaseId, BuildId) {
        let (release, build) = self.hear_prepare().await;
        self.prepared(release).await;
        assert_eq!(self.hear_activate().await, (release, build));
        self.ack(release).await;
        (release, build)
    }
}

fn hello(name: &str, release: ReleaseId) -> Hello {
    Hello {
        node: name.to_owned(),
        role: Role::App,
        host_version: "test".to_owned(),
        target: "test".to_owned(),
        addresses: Addresses::default(),
        children: 1,
        held: Vec::new(),
        active: None,
        release,
        release_build: None,
        region: String::new(),
        capacity: 0,
        child_addresses: Vec::new(),
        children_ready: 0,
        leaving: false,
    }
}

/// Makes a manifest of a build without handlers: none is needed to be released.
fn manifest(name: &str) -> Manifest {
    Manifest {
        format: FORMAT,
        name: name.to_owned(),
        handlers: BTreeMap::new(),
        routes: Vec::new(),
        assets: BTreeMap::new(),
        upstreams: BTreeMap::new(),
        live: None,
        settings: BTreeMap::new(),
    }
}

async fn end_of(mut events: ReleaseEvents) -> ReleaseRecord {
    loop {
        let event = tokio::time::timeout(NEVER, events.next()).await;
        if let ReleaseEvent::Finished(record) = event.unwrap().unwrap().unwrap() {
            return record;
        }
    }
}

#[track_caller]
fn assert_refused<T>(answer: Result<T, ClientError>, status: u16, code: &str) {
    match answer.map(drop) {
        Err(ClientError::Api {
            status: found,
            error,
        }) => assert_eq!((found, error.code.as_str()), (status, code), "{error:?}"),
        other => panic!("{other:?}, and not {status} {code}"),
    }
}
