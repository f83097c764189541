//! Starts a child: from its configuration and the descriptors that it inherits to a server that accepts nobody yet.

use crate::{
    access_log::FileLog,
    background::Background,
    builds::Builds,
    context::ChildContext,
    inherited::inherited,
    metrics::Metrics,
    relay::RelayServers,
    role::{RoleService, RoleStart, StartRole},
    service::Requests,
};
use anyhow::Context;
use protoplex_control::{
    child_files::ChildFiles,
    descriptors::{self, Reserve},
    messages::{ChildConfig, FromChild},
    socket::ControlSocket,
};
use protoplex_fleet::MemberFiles;
use protoplex_handler::{Linkers, Runtime, RuntimeConfig};
use protoplex_net::{BatchRefusal, Certificates, ListenHandle, batch_sends};
use protoplex_server::{ALPN, Server, ServerSettings};
use protoplex_upstream::{NodeCertificate, UpstreamContext};
use protoplex_wire::{Digest, directory::Directory};
use std::{collections::HashMap, fs::File, sync::Arc, time::Duration};

/// Accept loops on the sockets of one child, this one or a sibling.
pub(super) struct Listening {
    /// The public ports, and the one on which other nodes relay to this node.
    pub(super) public: Vec<ListenHandle>,
    /// The socket for internal requests by key; a child of a live node has one of its own.
    pub(super) internal: Option<ListenHandle>,
}

/// A child for the time of its process.
pub(super) struct Child {
    pub(super) config: ChildConfig,
    pub(super) channel: Arc<ControlSocket>,
    pub(super) runtime: Runtime,
    pub(super) linkers: Linkers,
    pub(super) context: Arc<ChildContext>,
    pub(super) role: Arc<dyn RoleService>,
    pub(super) server: Arc<Server<Requests>>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) access_log: Option<Arc<FileLog>>,
    pub(super) native: HashMap<Digest, File>,
    pub(super) hop_key: String,
    pub(super) directory: Directory,
    pub(super) reserve: Reserve,
    /// Accept loops of own and adopted sockets, by the index of the child that they belong to.
    pub(super) listening: HashMap<usize, Listening>,
}

impl Child {
    /// Reads what the configuration names, and starts the runtime and a server without sockets.
    pub(super) fn start(config: ChildConfig, start_role: StartRole) -> anyhow::Result<Self> {
        let control = inherited(config.control_fd)?;
        let channel =
            Arc::new(ControlSocket::from_fd(control).context("the control socket cannot be used")?);
        let runtime = Runtime::start(RuntimeConfig::of(config.instances_max))?;
        let linkers = Linkers::for_runtime(&runtime)?;
        let files = ChildFiles::of(Some(inherited(config.files_fd)?))
            .context("the certificates and secrets cannot be read")?;
        let (default, by_name) = files.public.pems();
        let certificates = Certificates::new(&default, &by_name)?;
        let MemberFiles { cert, key, .. } = &files.member;
        let means = UpstreamContext {
            children: config.children,
            node_certificate: Some(NodeCertificate::from_pem(
                cert.text.as_bytes(),
                key.text.as_bytes(),
            )?),
            ..UpstreamContext::default()
        };
        let drain_timeout = Duration::from_millis(config.drain_timeout_ms);
        let limits = config.ingress.limits(config.children, drain_timeout);
        let trust = config.ingress.trust();
        let context = Arc::new(ChildContext {
            role: config.role.spec(),
            builds: Builds::default(),
            servers: RelayServers::new(means),
            metrics: Metrics::default(),
            background: Background::default(),
        });
        let role = start_role(&RoleStart {
            config: &config,
            files: &files,
            limits: &limits.net,
            child: &context,
        })?;
        let access_log = match &config.ingress.access_log {
            Some(path) => Some(Arc::new(FileLog::open(path).with_context(|| {
                format!("the access log {} cannot be begun", path.display())
            })?)),
            None => None,
        };
        let settings = ServerSettings {
            limits,
            trust,
            tls: Some(Arc::new(certificates.config(&ALPN)?)),
            access_log: access_log.clone().map(|log| log as _),
        };
        let connections_max = settings.limits.net.connections_max;
        let server = Arc::new(Server::new(
            Arc::new(Requests::new(Arc::clone(&context), Arc::clone(&role))),
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
            context,
            role,
            server,
            certificates,
            access_log,
            native: HashMap::new(),
            hop_key: String::new(),
            directory: Directory::default(),
            reserve: Reserve::filled(),
            listening: HashMap::new(),
        })
    }

    /// Gathers the sends of each turn of the loop, where the child has one thread and the system lets it.
    pub(super) fn batch_sends(&self) {
        let server = Arc::clone(&self.server);
        let run = |task| self.context.background.spawn(task);
        match batch_sends(run, move |task| server.spawn(task)) {
            Ok(()) | Err(BatchRefusal::Threads) => {}
            Err(BatchRefusal::Unwanted) => {
                tracing::info!("sends go out one by one, as was asked for")
            }
            Err(reason) => {
                tracing::warn!(%reason, "sends go out one by one, which costs more CPU");
            }
        }
    }

    /// Sends a message to the parent. A parent that is gone is noticed where its messages are received.
    pub(super) async fn send(&self, message: &FromChild) {
        if let Err(error) = self.channel.send(message, &[]).await {
            tracing::warn!(%error, "a message to the parent could not be sent");
        }
    }
}
