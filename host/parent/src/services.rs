//! What runs beside the actor and sends it events: the Seed link, the meta port, the health port, the watch over
//! certificates.

use crate::{
    Lifecycle, certificates,
    config::NodeConfig,
    health,
    link::{self, LinkEvent},
    logs::Logs,
    meta::{self, Question},
    ports::ParentPorts,
};
use protoplex_fleet::{MemberFiles, MemberPort, member_port::operators_only, mutual_tls};
use protoplex_seed_client::SeedClient;
use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Events that may wait for the parent's one task.
const EVENTS_MAX: usize = 1_024;
/// Connections at once to the meta port that have shown a certificate. Any member of the fleet may make them: thousands of
/// nodes that call there by mistake keep no operator out.
const META_CONNECTIONS_MAX: usize = 8_192;
/// Once the actor has ended, tasks have so long to end by themselves: what children said last is written out. Nobody waits
/// for what hangs.
const LAST_TASKS_TIMEOUT: Duration = Duration::from_millis(500);

/// Tasks of the parent beside the actor.
#[derive(Default)]
pub(crate) struct Background {
    pub(crate) tasks: TaskTracker,
    stop: CancellationToken,
}

impl Background {
    /// Ends the tasks.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(LAST_TASKS_TIMEOUT, self.tasks.wait())
            .await
            .is_err()
        {
            let tasks = self.tasks.len();
            tracing::debug!(tasks, "tasks are cut by the end of the node");
        }
    }
}

/// What the services serve, and with what.
pub(crate) struct Services {
    pub(crate) seed: SeedClient,
    /// Files of the certificates of the HTTPS port.
    pub(crate) certificates: Vec<PathBuf>,
    pub(crate) ports: ParentPorts,
    /// What `/readyz` answers.
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) logs: Arc<Logs>,
}

/// Where events of the services come out.
pub(crate) struct ServiceEvents {
    pub(crate) link: mpsc::Receiver<LinkEvent>,
    pub(crate) meta: mpsc::Receiver<Question>,
}

impl Services {
    /// Starts all services as tasks of `background`.
    ///
    /// # Errors
    /// The node's own certificate cannot be used.
    pub(crate) fn start(
        self,
        config: &NodeConfig,
        lifecycle: &Lifecycle,
        background: &Background,
    ) -> anyhow::Result<ServiceEvents> {
        let Background { tasks, stop } = background;
        let (link_events, link) = mpsc::channel(EVENTS_MAX);
        let (questions, meta) = mpsc::channel(EVENTS_MAX);
        let tls = mutual_tls::server_config(&MemberFiles::read(&config.identity())?)?;
        let router = meta::router(questions, self.logs, &config.data, lifecycle.drain.clone());
        let meta_port = MemberPort {
            name: "meta",
            listener: self.ports.meta,
            tls,
            router: operators_only(router),
            connections_max: META_CONNECTIONS_MAX,
        };
        let watched = certificates::watch(self.certificates, Arc::clone(&lifecycle.reload));
        tasks.spawn(stop.clone().run_until_cancelled_owned(watched));
        let health = health::serve(self.ports.health, self.ready, tasks.clone(), stop.clone());
        tasks.spawn(health);
        let linked = link::run(self.seed, link_events);
        tasks.spawn(stop.clone().run_until_cancelled_owned(linked));
        tasks.spawn(meta_port.serve(tasks.clone(), stop.clone()));
        Ok(ServiceEvents { link, meta })
    }
}
