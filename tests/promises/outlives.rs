//! Everything at once, for as long as a fleet's worst hour: small answers, large bodies both ways, streams of HTTP/2
//! and tunnels, while builds are switched a hundred times and nodes behind the proxy are drained twenty times.

use crate::mixed::{bulk, streams, well};
use crate::tunnels::echo;
use protoplex_tests::{Connection, Fleet, Https, Load, Node, Origin, descriptors, repository};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::interval};

const PUSHES: usize = 100;
const DRAINS: usize = 20;
/// Connections of each kind.
const CONNECTIONS: usize = 2;
const TUNNELS: usize = 8;
/// Between two messages of a tunnel.
const TUNNEL_PAUSE: Duration = Duration::from_millis(20);
const GAUGES: [&str; 5] = [
    "protoplex_connections",
    "protoplex_in_flight",
    "protoplex_tunnels",
    "protoplex_upstream_connections",
    "protoplex_server_connections",
];
/// Pipes that a thread keeps for splicing, two ends each, and one more for a body that is on its way.
const PIPES_KEPT_MAX: usize = 2 * 17;

/// A build with everything: the sample site, and what a server behind the proxy switches to.
struct Build {
    _folder: TempDir,
    file: PathBuf,
}

impl Build {
    fn new(origin: &Origin) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("whole.toml");
        let root = repository();
        let component = |name: &str| root.join("builds/out").join(name).display().to_string();
        let manifest = format!(
            r#"
name = "whole"

[settings]
greeting = "blue"

[handlers.router]
component = "{router}"
isolation = "shared"

[handlers.router.grants]
settings = ["greeting"]
relay = ["role:app"]
assets = ["/"]

[handlers.relay]
component = "{relay}"

[handlers.relay.grants]
relay = ["origin"]

[handlers.app]
component = "{app}"
grants.settings = ["greeting"]

[upstreams.origin]
addresses = ["{origin}"]

[[routes]]
role = "proxy"
path = "/*"
handler = "router"

[[routes]]
role = "proxy"
path = "/socket"
handler = "relay"

[[routes]]
role = "app"
path = "/*"
handler = "app"

[assets]
directory = "{site}"
"#,
            router = component("router.wasm"),
            relay = component("relay.wasm"),
            app = component("app.wasm"),
            origin = origin.address,
            site = root.join("guests/site").display(),
        );
        std::fs::write(&file, manifest).unwrap();
        Self {
            _folder: folder,
            file,
        }
    }

    fn path(&self) -> &str {
        self.file.to_str().unwrap()
    }
}

/// A tunnel that never rests for long, and that nobody else ends. How often a message came back.
async fn tunnel(address: String, stop: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let mut tunnel = Connection::open(&address).await?;
    let head = format!(
        "GET /socket HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    );
    tunnel.write(head.as_bytes()).await?;
    let head = tunnel.response(true).await?;
    anyhow::ensure!(head.status == 101, "{head:?}");
    tunnel.exactly(b"first".len()).await?;
    let (mut ticks, mut count) = (interval(TUNNEL_PAUSE), 0_u64);
    while !stop.load(Relaxed) {
        ticks.tick().await;
        let message = format!("message {count:016}");
        tunnel.write(message.as_bytes()).await?;
        let back = tunnel.exactly(message.len()).await?;
        anyhow::ensure!(back == message.as_bytes(), "another message came back");
        count += 1;
    }
    Ok(count)
}

/// All kinds of visitors of one proxy.
struct Visitors {
    stop: Arc<AtomicBool>,
    loads: Vec<Load>,
    others: JoinSet<anyhow::Result<u64>>,
}

impl Visitors {
    fn start(fleet: &Fleet) -> Self {
        let address = fleet.node("proxy").http;
        let stop = Arc::new(AtomicBool::new(false));
        let small = |path| Load::start(&address, path, CONNECTIONS, well);
        let loads = vec![small("/hello"), small("/api/hello")];
        let mut others = JoinSet::new();
        for _ in 0..CONNECTIONS {
            others.spawn(bulk(address.clone(), Arc::clone(&stop)));
            let https = Https::new(fleet, "proxy", true).unwrap();
            others.spawn(streams(https, Arc::clone(&stop)));
        }
        for _ in 0..TUNNELS {
            others.spawn(tunnel(address.clone(), Arc::clone(&stop)));
        }
        Self {
            stop,
            loads,
            others,
        }
    }

    /// All of them were served, and nothing failed.
    async fn finish(self) {
        self.stop.store(true, Relaxed);
        for load in self.loads {
            let report = load.finish().await;
            assert_eq!(report.failures, Vec::<String>::new());
            assert!(report.total() > 0);
        }
        for count in self.others.join_all().await {
            assert!(count.unwrap() > 0);
        }
    }
}

/// Pushes one of two builds after the other.
async fn push(fleet: &Fleet, build: &Path, pushes: usize) {
    for push in 0..pushes {
        let color = ["greeting=green", "greeting=blue"][push % 2];
        let pushed =
            tokio::task::block_in_place(|| fleet.push(build.to_str().unwrap(), &[color])).unwrap();
        assert_eq!(pushed.code, 0, "push {push}: {pushed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_load_outlives_a_hundred_pushes_and_twenty_drains() {
    let origin = Origin::start(echo).await.unwrap();
    let build = Build::new(&origin);
    let fleet = Arc::new(Fleet::start_with(build.path(), &["--nodes", "app=2"]).unwrap());
    let visitors = Visitors::start(&fleet);
    let pushing = tokio::spawn({
        let (fleet, file) = (Arc::clone(&fleet), build.file.clone());
        async move { push(&fleet, &file, PUSHES).await }
    });
    for drain in 0..DRAINS {
        // The other one serves meanwhile.
        let name = ["app-1", "app-2"][drain % 2];
        fleet.drain_and_restart(name).await.unwrap();
    }
    pushing.await.unwrap();
    visitors.finish().await;
}

/// Descriptors that each child of a node has open.
fn open(fleet: &Fleet, node: &Node) -> Vec<BTreeMap<String, usize>> {
    let children = fleet.children(node).unwrap();
    let mut all: Vec<_> = children
        .iter()
        .map(|pid| descriptors(*pid).unwrap())
        .collect();
    for kinds in &mut all {
        let pipes = kinds.remove("pipe").unwrap_or_default();
        assert!(pipes <= PIPES_KEPT_MAX + 4, "{pipes} ends of pipes");
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_mixed_load_is_over_every_count_is_back_where_it_was() {
    let origin = Origin::start(echo).await.unwrap();
    let build = Build::new(&origin);
    let fleet = Fleet::start(build.path()).unwrap();
    // The proxy's connections to it end with the load, and not a minute later.
    let app = fleet.configure("app-1", |config| {
        config["ingress"]["limits"] = serde_json::json!({ "idle_timeout_ms": 2_000 });
    });
    let nodes = [fleet.node("proxy"), app.await.unwrap()];
    let mut before = None;
    // Before and after are both after a load: whatever is made once and kept has been made.
    for pushes in [6, 12] {
        let visitors = Visitors::start(&fleet);
        push(&fleet, &build.file, pushes).await;
        visitors.finish().await;
        for node in &nodes {
            for gauge in GAUGES {
                fleet
                    .wait_for_metric_of(node, gauge, |left| left == 0.0)
                    .await;
            }
        }
        let mut counts = Vec::new();
        for node in &nodes {
            let tasks = fleet.metric_of(node, "protoplex_tasks", "").await.unwrap();
            let instances = fleet.metric_of(node, "protoplex_pool_instances", "").await;
            counts.push((tasks, instances.unwrap(), open(&fleet, node)));
        }
        match &before {
            None => before = Some(counts),
            Some(before) => assert_eq!(before, &counts),
        }
    }
}
