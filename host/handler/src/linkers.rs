//! One linker for each world, made once in a process.

use crate::{
    BuildFault,
    app::AppState,
    bindings::{edge, edge_async, host, live, live_stateful},
    edge::host::{EdgeState, WasiEdgeState},
    engine::Engines,
    live::LiveState,
};
use protoplex_wire::{manifest::World, release::Stage};
use std::{fs::File, os::fd::AsRawFd};
use wasmtime::{
    Engine, Result,
    component::{Component, HasSelf, Linker},
};
use wasmtime_wasi_http::{
    handler::ProxyPre, p2::bindings::ProxyPre as App02Pre, p3::bindings::ServicePre as App03Pre,
};

/// Linkers of all worlds.
pub struct Linkers {
    edge: Linker<EdgeState>,
    edge_wasi: Linker<WasiEdgeState>,
    app: Linker<AppState>,
    live: Linker<LiveState>,
}

impl Linkers {
    /// For the engines of a process.
    ///
    /// # Errors
    /// Never in practice: two definitions of one name.
    pub(crate) fn new(engines: &Engines) -> Result<Self> {
        let mut edge = Linker::new(engines.of(World::Edge));
        edge::Edge::add_to_linker::<_, HasSelf<_>>(&mut edge, |state: &mut EdgeState| state)?;
        let mut edge_wasi = Linker::new(engines.of(World::EdgeWasi));
        edge_async::Edge::add_to_linker::<_, HasSelf<EdgeState>>(
            &mut edge_wasi,
            |state: &mut WasiEdgeState| &mut state.edge,
        )?;
        wasmtime_wasi::p2::add_to_linker_async(&mut edge_wasi)?;
        let mut app = Linker::new(engines.of(World::App03));
        wasmtime_wasi::p2::add_to_linker_async(&mut app)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut app)?;
        wasmtime_wasi::p3::add_to_linker(&mut app)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut app)?;
        wasmtime_wasi_config::add_to_linker(&mut app, AppState::settings)?;
        let live = live_linker(engines.of(World::Live))?;
        Ok(Self {
            edge,
            edge_wasi,
            app,
            live,
        })
    }

    /// For a runtime.
    ///
    /// # Errors
    /// Never in practice: two definitions of one name.
    pub fn for_runtime(runtime: &crate::Runtime) -> anyhow::Result<Self> {
        Self::new(runtime.engines()).map_err(|error| anyhow::anyhow!("{error:#}"))
    }

    pub(crate) fn edge(&self, component: &Component) -> Result<edge::EdgePre<EdgeState>> {
        edge::EdgePre::new(self.edge.instantiate_pre(component)?)
    }

    pub(crate) fn edge_wasi(
        &self,
        component: &Component,
    ) -> Result<edge_async::EdgePre<WasiEdgeState>> {
        edge_async::EdgePre::new(self.edge_wasi.instantiate_pre(component)?)
    }

    pub(crate) fn app(&self, component: &Component, world: World) -> Result<ProxyPre<AppState>> {
        let pre = self.app.instantiate_pre(component)?;
        Ok(match world {
            World::App02 => ProxyPre::P2(App02Pre::new(pre)?),
            _ => ProxyPre::P3(App03Pre::new(pre)?),
        })
    }

    pub(crate) fn live(&self, component: &Component) -> Result<live::LivePre<LiveState>> {
        live::LivePre::new(self.live.instantiate_pre(component)?)
    }

    pub(crate) fn live_stateful(
        &self,
        component: &Component,
    ) -> Result<live_stateful::LiveStatefulPre<LiveState>> {
        live_stateful::LiveStatefulPre::new(self.live.instantiate_pre(component)?)
    }

    /// Whether a component fits a world.
    pub(crate) fn check(&self, component: &Component, world: World) -> Result<(), BuildFault> {
        let result = match world {
            World::Edge => self.edge(component).map(drop),
            World::EdgeWasi => self.edge_wasi(component).map(drop),
            World::App02 | World::App03 => self.app(component, world).map(drop),
            World::Live => self.live(component).map(drop),
            World::LiveStateful => self.live_stateful(component).map(drop),
        };
        result.map_err(|error| BuildFault::new(Stage::Link, &error))
    }
}

/// Both live worlds import the same: package `protoplex:host`, and what concerns connections.
fn live_linker(engine: &Engine) -> Result<Linker<LiveState>> {
    use live_stateful::protoplex::live as of_live;
    fn edge(state: &mut LiveState) -> &mut EdgeState {
        &mut state.edge
    }
    fn own(state: &mut LiveState) -> &mut LiveState {
        state
    }
    let mut linker = Linker::new(engine);
    host::Imports::add_to_linker::<_, HasSelf<EdgeState>>(&mut linker, edge)?;
    of_live::types::add_to_linker::<_, HasSelf<_>>(&mut linker, own)?;
    of_live::connection::add_to_linker::<_, HasSelf<_>>(&mut linker, own)?;
    of_live::channels::add_to_linker::<_, HasSelf<_>>(&mut linker, own)?;
    Ok(linker)
}

/// Maps native code from a sealed file.
pub(crate) fn map_native(
    engine: &Engine,
    native: &File,
) -> std::result::Result<Component, BuildFault> {
    let path = format!("/proc/self/fd/{}", native.as_raw_fd());
    // SAFETY: the file is a sealed memfd that the parent filled from its own cache after checking the file's MAC, so
    // it is what our own compiler wrote, and nobody can change it while it is mapped.
    let component = unsafe { Component::deserialize_file(engine, path) };
    let component = component.map_err(|error| BuildFault::new(Stage::Compile, &error))?;
    component
        .initialize_copy_on_write_image()
        .map_err(|error| BuildFault::new(Stage::WarmUp, &error))?;
    Ok(component)
}
