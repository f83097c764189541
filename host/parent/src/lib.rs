//! The parent process: it holds what must outlive a child (sockets, the Seed link, builds) and runs no guest.
//!
//! One task, the actor, owns the parts of a node (`supervisor`, `releases`, `directory_keeper`, `leaving`, `seed_voice`);
//! everything else sends it events.

mod actor;
mod builds;
mod certificates;
mod child_files;
pub mod config;
mod directory_keeper;
mod health;
mod leaving;
mod link;
mod logs;
mod meta;
mod metrics;
mod native_files;
mod node_status;
mod ports;
mod releases;
mod seed_voice;
mod services;
mod sockets;
mod startup;
mod store;
mod supervisor;
#[cfg(test)]
mod testing;
mod turn_away;

use actor::{Actor, ActorParts, EventSources};
pub use child_files::CheckSecrets;
use config::NodeConfig;
use directory_keeper::DirectoryKeeper;
use leaving::{LeaveTimes, Leaving};
use node_status::NodeProfile;
use ports::Ports;
use protoplex_wire::status::Addresses;
use releases::Releases;
use services::{Background, ServiceEvents, Services};
use startup::Opened;
use std::sync::Arc;
use supervisor::Supervisor;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use turn_away::Newcomers;

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
    let opened = Opened::open(&config, check_secrets)?;
    let (ports, parent_ports) = Ports::bind(&config).await?;
    let addresses = ports.addresses().clone();
    let background = Background::default();
    let services = Services {
        seed: opened.seed,
        certificates: opened.certificates,
        ports: parent_ports,
        ready: Arc::default(),
        logs: Arc::default(),
    };

    let tasks = &background.tasks;
    let child = ports.child_config(&config, opened.files.raw_fd());
    let logs = Arc::clone(&services.logs);
    let (supervisor, children) = Supervisor::new(child, opened.files, logs, tasks.clone());
    let directory = DirectoryKeeper::open(&config.data)?;
    let (releases, builder) = Releases::new(opened.store, opened.builder, tasks.clone());
    let actor = Actor::new(ActorParts {
        profile: NodeProfile::new(&config, &ports),
        supervisor,
        releases,
        directory,
        leaving: Leaving::new(LeaveTimes::new(&config)),
        newcomers: Newcomers::new(ports.into_sockets(), tasks.clone()),
        ready: Arc::clone(&services.ready),
    });

    let ServiceEvents { link, meta } = services.start(&config, &lifecycle, &background)?;
    tracing::info!(
        node = config.name,
        http = addresses.http,
        https = addresses.https,
        "the node's ports are open"
    );
    let events = EventSources {
        children,
        builder,
        link,
        meta,
    };
    let ended = actor.run(events, lifecycle, || on_ready(&addresses)).await;
    background.end().await;
    ended
}
