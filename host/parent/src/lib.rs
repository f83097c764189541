//! The parent process: it holds what must outlive a child (sockets, the Seed link, builds) and runs no guest.
//!
//! One task owns all state; everything else sends it events.

mod actor;
mod builds;
mod certificates;
mod child_files;
mod children;
pub mod config;
mod directory;
mod health;
mod leaving;
mod link;
mod logs;
mod meta;
mod metrics;
mod native_files;
mod node_status;
mod orders;
mod process;
mod sockets;
pub mod store;
mod turn_away;

use actor::{Actor, Site};
use anyhow::{Context, ensure};
pub use child_files::CheckSecrets;
use config::NodeConfig;
use native_files::NativeFiles;
use protoplex_control::messages::ChildConfig;
use protoplex_fleet::{MemberFiles, MemberPort, member_port::operators_only, mutual_tls};
use protoplex_native::NativeCache;
use protoplex_seed_client::SeedClient;
use protoplex_wire::{directory::is_region, signature::verifying_key, status::Addresses};
use std::{
    os::fd::AsRawFd,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use store::Store;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Events that may wait for the parent's one task.
const EVENTS_MAX: usize = 1_024;
/// Connections at once to the meta port that have shown a certificate. Any member of the fleet may make them: thousands of
/// nodes that call there by mistake keep no operator out.
const META_CONNECTIONS_MAX: usize = 8_192;
/// Once the actor has ended, tasks have so long to end by themselves: what children said last is written out. Nobody waits
/// for what hangs.
const LAST_TASKS_TIMEOUT: Duration = Duration::from_millis(500);
/// Fewer children could not adopt each other's sockets.
const CHILDREN_MIN: usize = 2;

/// What an operator asks of a running node.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    /// Leave the fleet, finish what is in flight, and end.
    pub drain: CancellationToken,
    /// End at once, whatever is in flight.
    pub stop_now: CancellationToken,
    /// Read the public certificates again.
    pub reload: Arc<Notify>,
}

/// Runs a node until it is asked to drain, and has. `on_ready` hears the addresses when a build answers, or, where none is
/// on disk, when a child says so.
///
/// # Errors
/// The configuration, a port, a certificate or the data cannot be used, or no child starts.
pub async fn run(
    config: NodeConfig,
    lifecycle: Lifecycle,
    check_secrets: CheckSecrets,
    on_ready: impl FnOnce(&Addresses) + Send,
) -> anyhow::Result<()> {
    ensure!(
        config.children >= CHILDREN_MIN,
        "children is {}; at least {CHILDREN_MIN} are needed",
        config.children
    );
    ensure!(config.threads >= 1, "threads is 0; at least 1 is needed");
    ensure!(
        is_region(&config.region),
        "region `{}` must be at most 64 of a-z, 0-9 and `-`",
        config.region
    );
    let trusted = config
        .release_keys
        .iter()
        .map(|key| verifying_key(key))
        .collect::<Result<Vec<_>, _>>();
    let trusted = trusted.context("release_keys")?;
    let seed = SeedClient::new(&config.seed, &config.identity())?;
    protoplex_control::descriptors::raise();
    let paths = child_files::FilePaths::of(&config, check_secrets);
    let certificates = paths.of_certificates();
    let files = child_files::FileKeeper::open(paths)?;
    let store = Store::open(&config.data)?;
    let native = NativeCache::open(&config.native, config.native_bytes_max)?;
    let public = config.public_bind.unwrap_or(config.bind);
    let (http, http_address) = sockets::reuse_port(public, config.http_port, config.children)?;
    let (https, https_address) = sockets::reuse_port(public, config.https_port, config.children)?;
    let (relay, relay_address) =
        sockets::reuse_port(config.bind, config.relay_port, config.children)?;
    let (internal, child_addresses) = match config.role.spec().takes_slots {
        true => sockets::internal(config.bind, config.internal_port, config.children)?,
        false => (Vec::new(), Vec::new()),
    };
    let (health, health_address) =
        sockets::alone(public, config.health_port).context("the health port")?;
    let meta = TcpListener::bind((config.bind, config.meta_port))
        .await
        .context("the meta port")?;
    let addresses = Addresses {
        http: format!("http://{}", sockets::reached(http_address, config.bind)),
        https: format!("https://{}", sockets::reached(https_address, config.bind)),
        health: format!("http://{}", sockets::reached(health_address, config.bind)),
        meta: format!("https://{}", meta.local_addr()?),
        internal: format!("http://{relay_address}"),
    };
    let ready = Arc::new(AtomicBool::new(false));
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    let (link_events, from_link) = mpsc::channel(EVENTS_MAX);
    let (questions, from_meta) = mpsc::channel(EVENTS_MAX);
    let child = ChildConfig {
        node: config.name.clone(),
        role: config.role,
        index: 0,
        children: config.children,
        threads: config.threads,
        control_fd: -1,
        http_fds: http.iter().map(AsRawFd::as_raw_fd).collect(),
        https_fds: https.iter().map(AsRawFd::as_raw_fd).collect(),
        relay_fds: relay.iter().map(AsRawFd::as_raw_fd).collect(),
        internal_fds: internal.iter().map(AsRawFd::as_raw_fd).collect(),
        region: config.region.clone(),
        files_fd: files.raw_fd(),
        instances_max: config.instances_max,
        drain_timeout_ms: config.drain_timeout_ms,
        ingress: config.ingress.clone(),
    };
    let builder = builds::Builder {
        dir: config.data.clone(),
        native: NativeFiles::new(native),
        trusted,
        seed: Some(seed.clone()),
    };
    let site = Site {
        addresses: addresses.clone(),
        child_addresses,
        capacity: config.capacity,
        plain: http,
        others: [https, relay, internal].into_iter().flatten().collect(),
    };
    let watched = certificates::watch(certificates, Arc::clone(&lifecycle.reload));
    tasks.spawn(stop.clone().run_until_cancelled_owned(watched));
    let probed = Arc::clone(&ready);
    let (actor, logs) = Actor::new(child, site, files, store, builder, ready, tasks.clone())?;
    tasks.spawn(health::serve(health, probed, tasks.clone(), stop.clone()));
    let linked = link::run(seed, link_events);
    tasks.spawn(stop.clone().run_until_cancelled_owned(linked));
    let router = meta::router(questions, logs, &config.data, lifecycle.drain.clone());
    let meta = MemberPort {
        name: "meta",
        listener: meta,
        tls: mutual_tls::server_config(&MemberFiles::read(&config.identity())?)?,
        router: operators_only(router),
        connections_max: META_CONNECTIONS_MAX,
    };
    tasks.spawn(meta.serve(tasks.clone(), stop.clone()));
    tracing::info!(
        node = config.name,
        http = addresses.http,
        https = addresses.https,
        "the ports are open"
    );
    let ended = actor
        .run(from_link, from_meta, lifecycle, || on_ready(&addresses))
        .await;
    stop.cancel();
    tasks.close();
    if timeout(LAST_TASKS_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::debug!(tasks = tasks.len(), "tasks are cut by the end of the node");
    }
    ended
}
