//! A build, loaded: routes, compiled handlers, assets. Immutable once made; a request holds one pointer to it.

use super::{
    assets::{self, Assets},
    metrics::{HandlerMetrics, Metrics},
    relay,
    relay_grant::RelayGrant,
    route::{Router, Target},
    upstream::Upstreams,
};
use arc_swap::ArcSwap;
use protoplex_handler::{
    AppHandler, BuildFault, EdgeHandler, HandlerContext, Linkers, LiveHandler, Runtime,
};
use protoplex_upstream::UpstreamContext;
use protoplex_wire::{
    BuildId, Digest, Manifest,
    manifest::{Grants, Handler, Role},
    release::Stage,
};
use std::{
    collections::HashMap,
    fs::File,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Means to load a build besides its own files.
pub(super) struct Loader<'a> {
    pub(super) role: Role,
    pub(super) means: &'a UpstreamContext,
    pub(super) runtime: &'a Runtime,
    pub(super) linkers: &'a Linkers,
    pub(super) metrics: &'a Metrics,
    /// Native code by component.
    pub(super) native: &'a HashMap<Digest, File>,
    /// Builds whose unchanged handlers are carried over, warm.
    pub(super) loaded: &'a [Arc<LoadedBuild>],
}

/// Routes, compiled handlers, grants, settings and assets of a build: immutable, but for what ends it.
pub struct LoadedBuild {
    /// Digest of its manifest.
    pub id: BuildId,
    /// Finds the handler for a request.
    pub router: Router,
    /// The build's handlers, by the index that routes have for them.
    pub handlers: Vec<Arc<LoadedHandler>>,
    pub(super) assets: Assets,
    pub(super) upstreams: Upstreams,
    /// The manifest.
    pub manifest: Manifest,
    /// Timeout for the head of a response of `role:app`.
    pub(super) first_byte_of_apps: Duration,
    /// Cancelled at the next drain deadline after a switch away from the build.
    deadline: ArcSwap<CancellationToken>,
    /// Number of switches away from the build.
    switches: AtomicU64,
    /// Set by a switch away from the build, until the drain deadline passes.
    draining: AtomicBool,
}

/// A handler with its grants, limits and metrics, as one build uses it.
pub struct LoadedHandler {
    /// Name in the manifest.
    pub name: String,
    pub(super) grants: Grants,
    pub(super) response_bytes_max: u64,
    /// Compiled code, by the kind of its world.
    pub code: Code,
    /// Name, build, settings and grants, which the handler's calls may read.
    pub context: Arc<HandlerContext>,
    /// Counters by the handler's name, which outlive the build.
    pub metrics: Arc<HandlerMetrics>,
    /// Relays that the handler's grants allow.
    pub(super) relays: Vec<Arc<RelayGrant>>,
}

/// The compiled code of a handler, by the kind of its world.
#[derive(Clone)]
pub enum Code {
    /// An edge handler, which decides on heads.
    Edge(Arc<EdgeHandler>),
    /// An app handler, which answers whole requests.
    App(Arc<AppHandler>),
    /// A live handler, which is called with the events of connections.
    Live(Arc<LiveHandler>),
}

impl Code {
    /// Whether this is the code of that app handler.
    pub(super) fn is_app(&self, app: &Arc<AppHandler>) -> bool {
        matches!(self, Self::App(own) if Arc::ptr_eq(own, app))
    }
}

impl LoadedBuild {
    /// Loads a build: reads, maps and links; no guest runs yet.
    pub(super) fn load(
        loader: &Loader<'_>,
        id: BuildId,
        manifest: OwnedFd,
        pack: OwnedFd,
    ) -> Result<Self, BuildFault> {
        let manifest = read_manifest(id, manifest)?;
        let assets = assets::map(&manifest, pack)?;
        let upstreams = loader.upstreams(&manifest)?;
        let mut handlers = Vec::new();
        for (name, handler) in &manifest.handlers {
            let context = HandlerContext::new(name, handler, id, &manifest);
            handlers.push(Arc::new(LoadedHandler {
                name: name.clone(),
                grants: handler.grants.clone(),
                response_bytes_max: handler.limits.response_bytes_max,
                code: loader.code(handler, &context)?,
                context: Arc::new(context),
                metrics: loader.metrics.handlers.of(name.clone()),
                relays: loader.relays(name, &handler.grants, &upstreams)?,
            }));
        }
        let router = Router::new(loader.role, &manifest.routes, |route| {
            let mut names = handlers.iter().map(|handler| &handler.name);
            let handler = names.position(|name| *name == route.handler)?;
            let host = route.host.as_deref();
            let metrics = loader.metrics.route(host, &route.path, &route.handler);
            let pace = Target::pace(route);
            Some(Target {
                handler,
                metrics,
                pace,
            })
        });
        Ok(Self {
            id,
            router,
            handlers,
            assets,
            upstreams,
            first_byte_of_apps: relay::first_byte_of_apps(&manifest),
            manifest,
            deadline: ArcSwap::from_pointee(CancellationToken::new()),
            switches: AtomicU64::new(0),
            draining: AtomicBool::new(false),
        })
    }

    pub(super) fn handler(&self, name: &str) -> Option<&LoadedHandler> {
        let mut handlers = self.handlers.iter().map(|handler| &**handler);
        handlers.find(|handler| handler.name == name)
    }

    /// The token that is cancelled when requests which began before now have to end.
    pub(super) fn deadline_token(&self) -> CancellationToken {
        CancellationToken::clone(&self.deadline.load())
    }

    /// Ends whatever still runs on the build. Internal requests that name it later are not affected.
    pub(super) fn expire(&self) {
        self.draining.store(false, SeqCst);
        self.deadline
            .swap(Arc::new(CancellationToken::new()))
            .cancel();
    }

    /// Marks a switch away from the build. Returns how many there have been.
    pub(super) fn switched_away(&self) -> u64 {
        self.draining.store(true, SeqCst);
        self.switches.fetch_add(1, Relaxed) + 1
    }

    /// Whether there was a switch away from the build whose drain deadline is still to come.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Whether that was the last switch away from the build.
    pub(super) fn was_last(&self, switch: u64) -> bool {
        self.switches.load(Relaxed) == switch
    }

    /// Drops idle instances that only this build uses, and `except` does not.
    pub(super) fn trim_pools(&self, except: &LoadedBuild) {
        for handler in &self.handlers {
            let is_kept = except
                .handlers
                .iter()
                .any(|other| match (&handler.code, &other.code) {
                    (Code::Edge(ours), Code::Edge(theirs)) => Arc::ptr_eq(ours, theirs),
                    (Code::Live(ours), Code::Live(theirs)) => Arc::ptr_eq(ours, theirs),
                    _ => false,
                });
            match &handler.code {
                Code::Edge(edge) if !is_kept => edge.trim_pool(),
                Code::Live(live) if !is_kept => live.trim_pool(),
                _ => {}
            }
        }
    }
}

impl Loader<'_> {
    /// The upstreams of a build; unchanged ones are carried over.
    fn upstreams(&self, manifest: &Manifest) -> Result<Upstreams, BuildFault> {
        let held: Vec<_> = self.loaded.iter().map(|build| &build.upstreams).collect();
        let upstreams = Upstreams::new(&manifest.upstreams, &held, self.means);
        upstreams.map_err(|reason| BuildFault {
            stage: Stage::Limit,
            reason,
        })
    }

    /// The relays that a handler's grants allow.
    fn relays(
        &self,
        handler: &str,
        grants: &Grants,
        upstreams: &Upstreams,
    ) -> Result<Vec<Arc<RelayGrant>>, BuildFault> {
        let relays = grants.relay.iter().map(|name| {
            let grant = RelayGrant::new(name, upstreams, self.metrics);
            grant.map(Arc::new).map_err(|reason| BuildFault {
                stage: Stage::Link,
                reason: format!("handler `{handler}`: {reason}"),
            })
        });
        relays.collect()
    }

    /// Carries a handler over whose name, component, grants and limits did not change; loads any other. Settings reach
    /// an edge handler with each call, and an app's instances once.
    fn code(&self, handler: &Handler, context: &HandlerContext) -> Result<Code, BuildFault> {
        let (name, world) = (context.handler.as_str(), handler.world);
        let unchanged = self
            .loaded
            .iter()
            .filter(|build| build.manifest.handlers.get(name) == Some(handler))
            .filter_map(|build| build.handler(name))
            .find(|handler| !world.is_app() || handler.context.settings == context.settings);
        if let Some(handler) = unchanged {
            return Ok(handler.code.clone());
        }
        let native = self
            .native
            .get(&handler.component)
            .ok_or_else(|| BuildFault {
                stage: Stage::Compile,
                reason: format!(
                    "handler `{name}`: the parent sent no native code of {}",
                    handler.component.short()
                ),
            })?;
        let named = |fault: BuildFault| BuildFault {
            reason: format!("handler `{name}`: {}", fault.reason),
            ..fault
        };
        let (runtime, linkers) = (self.runtime, self.linkers);
        Ok(if world.is_live() {
            let live = linkers.live_handler(runtime, native, handler);
            Code::Live(Arc::new(live.map_err(named)?))
        } else if world.is_edge() {
            let edge = linkers.edge_handler(runtime, native, handler);
            Code::Edge(Arc::new(edge.map_err(named)?))
        } else {
            let app = linkers.app_handler(runtime, native, handler, context);
            Code::App(Arc::new(app.map_err(named)?))
        })
    }
}

fn read_manifest(id: BuildId, fd: OwnedFd) -> Result<Manifest, BuildFault> {
    let fault = |reason: String| BuildFault {
        stage: Stage::Digest,
        reason,
    };
    let map = assets::map_fd(&fd)
        .map_err(|error| fault(format!("the manifest cannot be mapped: {error}")))?;
    if Digest::of(&map) != id {
        return Err(fault(format!(
            "the manifest is not that of build {}",
            id.short()
        )));
    }
    Manifest::parse(&map).map_err(|error| fault(error.to_string()))
}

#[cfg(test)]
impl LoadedBuild {
    /// A build of nothing, for tests of what holds builds.
    pub(super) fn empty(name: &str) -> Self {
        let text = format!(r#"{{"format":1,"handlers":{{}},"name":"{name}","routes":[]}}"#);
        let manifest = Manifest::parse(text.as_bytes()).expect("it is canonical");
        Self {
            id: manifest.id(),
            router: Router::default(),
            handlers: Vec::new(),
            assets: Assets::new(),
            upstreams: Upstreams::default(),
            first_byte_of_apps: relay::first_byte_of_apps(&manifest),
            manifest,
            deadline: ArcSwap::default(),
            switches: AtomicU64::new(0),
            draining: AtomicBool::new(false),
        }
    }
}
