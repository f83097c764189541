//! What a child does for its parent: load builds, switch, adopt sockets, drain.

mod ending;

use super::{
    access_log::FileLog,
    build::{LoadedBuild, Loader},
    fleet::Fleet,
    handed::{duplicate, inherited, pems, whole_directory},
    live::{Admission, Live, LiveSecrets},
    metrics::{Metrics, Seen},
    probe,
    relay::Relay,
    retained::Builds,
    service::{Requests, Shared},
    upstream,
};
use crate::{
    channel::{Channel, sealed_memfd},
    control::{Beat, ChildConfig, FromChild, ToChild},
    descriptors::{self, Reserve},
    ingress, log_output,
};
use anyhow::Context;
use ending::{End, leave_signals_to_the_parent};
use protoplex_edge::{
    Certificates, Divert, ListenHandle, Server, Settings, TicketSecret,
    upstream::{Means, NodeCertificate},
};
use protoplex_handler::{BuildFault, Linkers, Runtime, RuntimeConfig};
use protoplex_http::Scheme;
use protoplex_wire::{BuildId, Digest, ReleaseId, directory::Directory, release::Stage};
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The sign of life.
const BEAT_PERIOD: Duration = Duration::from_millis(250);

/// Reasons are cut here: a packet has room for them, however they are escaped.
const REASON_BYTES_MAX: usize = 16 << 10;

/// Idle connections to upstreams are looked at once in so many beats.
const SWEEP_BEATS: u64 = 20;

/// Accept loops of one child's sockets.
struct Listening {
    /// The sockets for visitors, and the one on which other nodes relay to this one.
    public: Vec<ListenHandle>,
    /// Of a child of a live node, for its keys.
    internal: Option<ListenHandle>,
}

struct Child {
    config: ChildConfig,
    channel: Arc<Channel>,
    runtime: Runtime,
    linkers: Linkers,
    shared: Arc<Shared>,
    server: Arc<Server<Requests>>,
    certificates: Arc<Certificates>,
    access_log: Option<Arc<FileLog>>,
    native: HashMap<Digest, File>,
    hop_key: String,
    directory: Directory,
    reserve: Reserve,
    /// Own and adopted sockets that are accepted on, by index.
    listening: HashMap<usize, Listening>,
}

/// Serves until the parent says `drain`, or is gone.
pub(super) async fn run(config: ChildConfig) -> anyhow::Result<()> {
    leave_signals_to_the_parent()?;
    let mut child = Child::start(config)?;
    let mut beats = pin!(beat(
        Arc::clone(&child.channel),
        Arc::clone(&child.shared),
        Arc::clone(&child.server),
    ));
    let shared = Arc::clone(&child.shared);
    // Also while it drains.
    tokio::spawn(async move { Live::tick_all(&shared).await });
    let end = tokio::select! {
        ended = child.obey_all() => ended?,
        // It also notices in the middle of an order.
        () = &mut beats => End::Orphaned,
    };
    if end == End::Orphaned {
        tracing::warn!("the parent is gone; draining");
        child.accept_for_siblings().await;
        child.shut();
        let cut = child.finish().await;
        tracing::info!(cut, "a child drained");
        return Ok(());
    }
    let mut finished = pin!(child.finish());
    let told = async {
        tokio::select! {
            ended = child.obey_draining() => ended,
            () = beats => Ok(()),
        }
    };
    let cut = tokio::select! {
        biased;
        cut = &mut finished => cut,
        // A parent that is gone is no reason to leave anybody without an answer.
        _ = told => {
            child.shut();
            finished.await
        }
    };
    tracing::info!(cut, "a child drained");
    child.say(&FromChild::Drained { cut }).await;
    Ok(())
}

/// Says that this process lives, however long an order takes. Until the parent is gone.
async fn beat(channel: Arc<Channel>, shared: Arc<Shared>, server: Arc<Server<Requests>>) {
    let mut ticks = tokio::time::interval(BEAT_PERIOD);
    for beats in 0_u64.. {
        ticks.tick().await;
        if beats % SWEEP_BEATS == 0 {
            shared.relay.sweep();
            shared
                .builds
                .now()
                .all()
                .for_each(|build| build.upstreams.sweep());
        }
        let beat = FromChild::Beat(beat_of(&shared.metrics, &server));
        if channel.send(&beat, &[]).await.is_err() {
            return;
        }
    }
}

fn beat_of(metrics: &Metrics, server: &Server<Requests>) -> Beat {
    Beat {
        requests: metrics.requests.load(Relaxed),
        errors: metrics.errors.load(Relaxed),
        traps: metrics.traps.load(Relaxed),
        in_flight: server.in_flight() as u64,
        connections: server.connections() as u64,
    }
}

impl Child {
    fn start(config: ChildConfig) -> anyhow::Result<Self> {
        let control = inherited(config.control_fd)?;
        let channel =
            Arc::new(Channel::from_fd(control).context("the control socket cannot be used")?);
        let runtime = Runtime::start(RuntimeConfig::of(config.instances_max))?;
        let linkers = Linkers::for_runtime(&runtime)?;
        let (default, by_name) = pems(&config)?;
        let certificates = Certificates::new(&default, &by_name)?;
        let read = |path: &std::path::Path| {
            std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
        };
        let means = Means {
            children: config.children,
            node_certificate: Some(NodeCertificate::from_pem(
                &read(&config.cert)?,
                &read(&config.key)?,
            )?),
            ..Means::default()
        };
        let drain_timeout = Duration::from_millis(config.drain_timeout_ms);
        let limits = config.ingress.limits(config.children, drain_timeout);
        let trust = config.ingress.trust();
        let live_secrets = match &config.live_secrets {
            Some(file) => LiveSecrets::read(file)?,
            None => LiveSecrets::default(),
        };
        let shared = Arc::new(Shared {
            role: config.role,
            builds: Builds::default(),
            fleet: watch::Sender::new(Fleet::default()),
            relay: Relay::new(means),
            metrics: Metrics::default(),
            live: Live::new(live_secrets, Admission::new(&limits)),
        });
        let index = u16::try_from(config.index).context("there are fewer children")?;
        let files = (&*config.ca, &*config.cert, &*config.key);
        Live::introduce(&shared, (&config.node, index), files)?;
        let access_log = match &config.ingress.access_log {
            Some(path) => Some(Arc::new(FileLog::open(path).with_context(|| {
                format!("the access log {} cannot be begun", path.display())
            })?)),
            None => None,
        };
        let settings = Settings {
            limits,
            trust,
            tls: Some(Arc::new(certificates.config()?)),
            access_log: access_log.clone().map(|log| log as _),
        };
        let connections_max = settings.limits.connections_max;
        let server = Arc::new(Server::new(
            Arc::new(Requests(Arc::clone(&shared))),
            settings,
        ));
        tracing::info!(
            node = config.node,
            child = config.index,
            connections_max,
            descriptors = descriptors::limit(),
            keeps_resident = runtime.keeps_resident(),
            "a child started"
        );
        Ok(Self {
            config,
            channel,
            runtime,
            linkers,
            shared,
            server,
            certificates,
            access_log,
            native: HashMap::new(),
            hop_key: String::new(),
            directory: Directory::default(),
            reserve: Reserve::new(),
            listening: HashMap::new(),
        })
    }

    /// Tells the parent something. That it is gone shows where it is listened to.
    async fn say(&self, message: &FromChild) {
        if let Err(error) = self.channel.send(message, &[]).await {
            tracing::warn!(%error, "the parent cannot be told");
        }
    }

    /// Until it is told to drain, or nobody is there to tell it.
    async fn obey_all(&mut self) -> anyhow::Result<End> {
        self.say(&FromChild::Started).await;
        loop {
            let received = self.channel.receive_with::<ToChild>(&self.reserve).await?;
            let Some((message, fds)) = received else {
                return Ok(End::Orphaned);
            };
            if !self.obey(message, fds).await? {
                return Ok(End::Told);
            }
            self.reserve.refill();
        }
    }

    /// What concerns what is still in flight. Until the parent is gone.
    async fn obey_draining(&mut self) -> anyhow::Result<()> {
        while let Some((message, fds)) = self.channel.receive_with(&self.reserve).await? {
            match message {
                ToChild::Native { .. }
                | ToChild::Prepare { .. }
                | ToChild::Activate { .. }
                | ToChild::Adopt { .. }
                | ToChild::Disown { .. }
                | ToChild::Drain => {}
                message => drop(self.obey(message, fds).await?),
            }
            self.reserve.refill();
        }
        Ok(())
    }

    /// New handshakes use what the files hold now; if that cannot be used, what they held before.
    fn reload_certificates(&self) {
        let replaced = pems(&self.config)
            .and_then(|(default, by_name)| Ok(self.certificates.replace(&default, &by_name)?));
        match replaced {
            Ok(()) => tracing::info!("new certificates are used"),
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "new certificates cannot be used; the old ones stay"
            ),
        }
    }

    /// Whether to go on.
    async fn obey(&mut self, message: ToChild, fds: Vec<OwnedFd>) -> anyhow::Result<bool> {
        match message {
            ToChild::Native { component } => {
                if let Some(fd) = fds.into_iter().next() {
                    self.native.insert(component, File::from(fd));
                }
            }
            ToChild::Prepare { release, build } => {
                let answer = match self.prepare(build, fds).await {
                    Ok(()) => FromChild::Prepared { release, build },
                    Err(mut fault) => {
                        let end = fault.reason.floor_char_boundary(REASON_BYTES_MAX);
                        fault.reason.truncate(end);
                        FromChild::Failed {
                            release,
                            build,
                            stage: fault.stage,
                            reason: fault.reason,
                        }
                    }
                };
                self.say(&answer).await;
            }
            ToChild::Activate { release, build } => {
                let answer = self.activate(release, build);
                self.say(&answer).await;
            }
            ToChild::Abandon { build, .. } => {
                self.shared.builds.abandon(&build);
                self.forget_native();
            }
            ToChild::Directory { hop_key } => {
                let file = fds.into_iter().next();
                self.directory = whole_directory(file).context("the directory cannot be read")?;
                self.hop_key = hop_key;
                self.relay_by_directory().await;
            }
            ToChild::DirectoryDelta(delta) => match self.directory.apply(&delta) {
                Ok(()) => self.relay_by_directory().await,
                Err(error) => {
                    tracing::error!(%error, "the whole directory is asked for");
                    self.say(&FromChild::DirectoryWanted).await;
                }
            },
            ToChild::Certificates => self.reload_certificates(),
            ToChild::Tickets { epoch, secret } => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(&secret, &mut bytes).context("the tickets' secret")?;
                let secret = TicketSecret {
                    epoch,
                    secret: bytes,
                };
                self.certificates.set_ticket_secret(secret);
            }
            ToChild::Adopt { index } => match self.listen(index) {
                // Those who come to a sibling wait for its successor, and those who are here stay.
                Err(error) if index != self.config.index => tracing::error!(
                    child = index,
                    error = format!("{error:#}"),
                    "a sibling's socket is not accepted on"
                ),
                listening => listening?,
            },
            ToChild::Disown { index } => self.stop_listening(index),
            ToChild::Metrics => self.send_metrics().await,
            ToChild::Drain => return Ok(false),
        }
        Ok(true)
    }

    /// From here on, what is decided goes where the directory says.
    async fn relay_by_directory(&self) {
        let fleet = Fleet::new(&self.hop_key, &self.directory, &self.config.region);
        let nodes = ingress::addresses(&self.directory.by_role());
        self.server.set_fleet(nodes.clone());
        self.shared.live.set_fleet(nodes);
        self.shared.live.take_directory(&self.directory);
        self.shared.relay.set_roles(fleet.roles());
        self.shared.fleet.send_replace(fleet);
        let version = self.directory.version;
        self.say(&FromChild::Directory { version }).await;
    }

    async fn prepare(&mut self, id: BuildId, fds: Vec<OwnedFd>) -> Result<(), BuildFault> {
        if self.shared.builds.now().named(&id).is_some() {
            return Ok(());
        }
        let [manifest, pack] = <[OwnedFd; 2]>::try_from(fds).map_err(|fds| BuildFault {
            stage: Stage::Protocol,
            reason: format!(
                "`prepare` came with {} files instead of a manifest and an asset pack",
                fds.len()
            ),
        })?;
        let held = Arc::clone(&self.shared.builds.now());
        let loader = Loader {
            role: self.config.role,
            means: &self.shared.relay.means,
            runtime: &self.runtime,
            linkers: &self.linkers,
            metrics: &self.shared.metrics,
            native: &self.native,
            held: &held,
        };
        let build = Arc::new(LoadedBuild::load(&loader, id, manifest, pack)?);
        probe::warm(&build).await?;
        self.shared.builds.add_prepared(build);
        Ok(())
    }

    fn activate(&mut self, release: ReleaseId, id: BuildId) -> FromChild {
        let started = Instant::now();
        let failed = |stage, reason| FromChild::Failed {
            release,
            build: id,
            stage,
            reason,
        };
        let old = match self.shared.builds.activate(&id) {
            Ok(old) => old,
            Err(reason) => return failed(Stage::Protocol, reason),
        };
        let took = started.elapsed();
        let metrics = &self.shared.metrics;
        metrics.swaps.fetch_add(1, Relaxed);
        metrics
            .swap_ns
            .fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        if let Some(new) = &self.shared.builds.now().active {
            Live::switched(&self.shared, new);
        }
        if let (Some(old), Some(new)) = (old, &self.shared.builds.now().active) {
            tracing::info!(
                build = id.short(),
                before = old.id.short(),
                took_us = took.as_micros(),
                "switched"
            );
            old.cool(new);
            self.cut_after_drain(old);
        }
        self.forget_native();
        match self.listen(self.config.index) {
            Ok(()) => FromChild::Activated { release, build: id },
            Err(error) => failed(Stage::Limit, format!("{error:#}")),
        }
    }

    /// Ends what the old build still does when its drain deadline passes, unless it answered again since: then what it
    /// does may have begun a moment ago.
    fn cut_after_drain(&self, old: Arc<LoadedBuild>) {
        let (shared, timeout) = (
            Arc::clone(&self.shared),
            Duration::from_millis(self.config.drain_timeout_ms),
        );
        let (switch, id, cut) = (old.switched_away(), old.id, old.cut_token());
        let old = Arc::downgrade(&old);
        tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            let now = shared.builds.now();
            if now.active.as_ref().is_some_and(|now| now.id == id) {
                return;
            }
            match old.upgrade() {
                Some(old) if old.was_last(switch) => {
                    old.cut();
                    Live::leave_build(&shared, &old);
                }
                Some(_) => {}
                // Its requests do not keep it loaded.
                None => cut.cancel(),
            }
        });
    }

    /// Native code is mapped once loaded; the files of components that no held build uses go.
    fn forget_native(&mut self) {
        let held = self.shared.builds.now();
        let used: HashSet<Digest> = held
            .all()
            .flat_map(|build| {
                build
                    .manifest
                    .handlers
                    .values()
                    .map(|handler| handler.component)
            })
            .collect();
        self.native.retain(|component, _| used.contains(component));
    }

    fn listen(&mut self, index: usize) -> anyhow::Result<()> {
        if self.listening.contains_key(&index) {
            return Ok(());
        }
        let mut public = Vec::new();
        let mut internal = None;
        for (fds, scheme) in [
            (&self.config.http_fds, Scheme::Http),
            (&self.config.https_fds, Scheme::Https),
        ] {
            let fd = fds
                .get(index)
                .with_context(|| format!("there is no socket {index}"))?;
            public.push(self.server.listen(listener(*fd)?, scheme));
        }
        if let Some(fd) = self.config.relay_fds.get(index) {
            public.push(self.server.listen_internal(listener(*fd)?));
        }
        if let Some(fd) = self.config.internal_fds.get(index) {
            let listener = listener(*fd)?;
            let shared = Arc::clone(&self.shared);
            let divert: Divert =
                Arc::new(move |stream| Box::pin(Live::answer_link(Arc::clone(&shared), stream)));
            internal = Some(self.server.listen_beside(listener, divert));
        }
        let listening = Listening { public, internal };
        self.listening.insert(index, listening);
        Ok(())
    }

    fn stop_listening(&mut self, index: usize) {
        if index == self.config.index {
            return;
        }
        if let Some(Listening { public, internal }) = self.listening.remove(&index) {
            public.into_iter().for_each(ListenHandle::stop);
            // Its keys are the other child's again, on connections that other nodes keep, too.
            internal.into_iter().for_each(ListenHandle::retire);
        }
    }

    async fn send_metrics(&self) {
        let beat = beat_of(&self.shared.metrics, &self.server);
        let build = self
            .shared
            .builds
            .now()
            .active
            .as_ref()
            .map(|build| build.id.to_string())
            .unwrap_or_default();
        let means = &self.shared.relay.means;
        let mut gauges = vec![
            (
                "protoplex_in_flight",
                "Requests being answered.",
                beat.in_flight,
            ),
            (
                "protoplex_connections",
                "Open connections.",
                beat.connections,
            ),
            (
                "protoplex_tunnels",
                "Connections and streams that were switched to another protocol.",
                self.server.tunnels() as u64,
            ),
            (
                "protoplex_tasks",
                "Accept loops, connections, streams, and what runs for servers.",
                (self.server.tasks() + means.tasks.len()) as u64,
            ),
            (
                "protoplex_server_connections",
                "Open connections to servers, those of builds that are gone included.",
                means.connected.open() as u64,
            ),
            (
                "protoplex_access_log_dropped",
                "Lines of the access log for which there was no room.",
                self.access_log.as_ref().map_or(0, |log| log.dropped()),
            ),
            (
                "protoplex_log_lines_lost",
                "Lines of the log that could not be written.",
                log_output::lost(),
            ),
            (
                "protoplex_pool_instances",
                "Component instances alive.",
                self.runtime.instances(),
            ),
        ];
        gauges.extend(self.shared.live.gauges());
        let mut loads = self.shared.relay.loads();
        let held = self.shared.builds.now();
        upstream::add_loads(&mut loads, held.all().map(|build| &build.upstreams));
        drop(held);
        let text = self.shared.metrics.text(&Seen {
            child: self.config.index,
            build: &build,
            gauges: &gauges,
            counts: &self.shared.live.counts(),
            refused: {
                let refused = self.server.counters().all();
                refused.chain(self.shared.live.refused()).collect()
            },
            backlogs: self.shared.live.backlogs(),
            loads,
        });
        let file = self
            .reserve
            .lend(|| sealed_memfd("metrics", |file| file.write_all(text.as_bytes())));
        let sent = match &file {
            Ok(file) => {
                let files = [file.as_fd()];
                self.channel.send(&FromChild::Metrics, &files).await
            }
            Err(error) => Err(io::Error::from(error.kind())),
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "this child's metrics cannot be told");
        }
    }
}

/// A listener on an inherited socket, which stays open for siblings.
fn listener(fd: i32) -> anyhow::Result<tokio::net::TcpListener> {
    let listener = std::net::TcpListener::from(duplicate(fd)?);
    listener.set_nonblocking(true)?;
    Ok(tokio::net::TcpListener::from_std(listener)?)
}
