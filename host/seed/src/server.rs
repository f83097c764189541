//! The Seed around its core: one mutual-TLS port, one task that owns the core, the store behind it.
//!
//! Only the actor touches the core; only the store touches the disk. What a peer may do is told by its certificate.

use crate::{
    config::SeedConfig,
    core::{RolloutPlan, SeedCore},
    store::{Retention, SeedStore},
};
use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use protoplex_fleet::{MemberFiles, MemberPort, mutual_tls};
use protoplex_wire::{manifest::Handler, release::Stage, signature::verifying_key};
use std::{future::Future, net::SocketAddr, path::Path, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod actor;
mod api;
mod blobs;
mod builds;
mod fault;
mod gc;
mod link;
mod peer;
#[cfg(test)]
mod tests;

/// Most connections that have shown a certificate: one for every node, and operators.
const CONNECTIONS_MAX: usize = 2 * crate::core::NODES_MAX;

/// Checks a component at push: that it compiles, has its world's exports, and imports nothing that will not link.
/// The binary does that in a subprocess; the Seed itself never runs guests.
pub trait ComponentCheck: Send + Sync + 'static {
    /// Checks the component in the file `wasm` for the handler `name`.
    ///
    /// The error is where it failed and why, for the handler's author.
    fn check(
        &self,
        name: &str,
        handler: &Handler,
        wasm: &Path,
    ) -> impl Future<Output = Result<(), (Stage, String)>> + Send;
}

/// [`ComponentCheck`] behind a pointer.
trait DynCheck: Send + Sync {
    fn check<'a>(
        &'a self,
        name: &'a str,
        handler: &'a Handler,
        wasm: &'a Path,
    ) -> BoxFuture<'a, Result<(), (Stage, String)>>;
}

impl<C: ComponentCheck> DynCheck for C {
    fn check<'a>(
        &'a self,
        name: &'a str,
        handler: &'a Handler,
        wasm: &'a Path,
    ) -> BoxFuture<'a, Result<(), (Stage, String)>> {
        Box::pin(ComponentCheck::check(self, name, handler, wasm))
    }
}

/// State that every request may use.
struct SeedContext {
    store: Arc<SeedStore>,
    seed: actor::SeedHandle,
    builds: builds::AcceptedBuilds,
    retention: Retention,
    collecting: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Runs a Seed until `shutdown`. `on_ready` is called with the bound address when the Seed answers.
///
/// A release that is going on at the end is recorded as reverted by the next start, which takes its nodes back.
///
/// A release that is going on at the end is recorded as reverted by the next start, which takes its nodes back.
///
/// # Errors
/// The configuration, the certificates, the data directory or the port cannot be used; or the Seed's one task died.
pub async fn run(
    config: SeedConfig,
    check: impl ComponentCheck,
    shutdown: CancellationToken,
    on_ready: impl FnOnce(SocketAddr),
) -> Result<()> {
    let tls = mutual_tls::server_config(&MemberFiles::read(&config.identity())?)?;
    let keys = config.release_keys.iter().map(|text| verifying_key(text));
    let keys = keys
        .collect::<Result<Vec<_>, _>>()
        .context("release_keys")?;
    let store = Arc::new(SeedStore::open(&config.data)?);
    let clock = actor::Clock::start();
    let plan = RolloutPlan {
        prepare_timeout_ms: config.prepare_timeout_ms,
        activate_timeout_ms: config.activate_timeout_ms,
        wave_nodes_max: usize::MAX,
    };
    let (core, effects) = SeedCore::new(
        plan,
        store.load_state()?,
        store.load_known(),
        clock.now_ms(),
    );
    let listener = TcpListener::bind((config.bind, config.port))
        .await
        .with_context(|| format!("binding {}:{}", config.bind, config.port))?;
    let address = listener.local_addr()?;

    let (seed, actor) = actor::start(core, Arc::clone(&store), clock);
    let tasks = TaskTracker::new();
    let actor = tasks.spawn(actor.run(effects, shutdown.clone()));
    let shared = Arc::new(SeedContext {
        store: Arc::clone(&store),
        builds: builds::AcceptedBuilds::new(store, keys, Arc::new(check)),
        seed,
        retention: config.retention,
        collecting: tokio::sync::Mutex::default(),
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
    });
    tasks.spawn(gc::run(Arc::clone(&shared)));
    tracing::info!(%address, data = %config.data.display(), "the Seed serves");
    on_ready(address);
    let port = MemberPort {
        name: "seed",
        listener,
        tls,
        router: api::router(shared),
        connections_max: CONNECTIONS_MAX,
    };
    let accepting = tasks.spawn(port.serve(tasks.clone(), shutdown.clone()));

    let ended = actor.await.context("the Seed's task died");
    shutdown.cancel();
    tasks.close();
    accepting.await.context("the accepting task died")?;
    tasks.wait().await;
    tracing::info!("the Seed has stopped");
    ended
}
