//! The linkers of all worlds, made once in a process, and the handlers that are loaded with them.
//!
//! A handler is loaded from what `precompile` made of its verified component. That file must come from a place that only
//! this program can write: it is run as machine code.

use crate::{
    AppHandler, BuildFault, EdgeHandler, HandlerContext, LiveHandler, Runtime,
    engine::Engines,
    native,
    pool::Pool,
    worlds::{app::AppLinker, edge::EdgeLinkers, live::LiveLinker},
};
use protoplex_wire::{
    manifest::{Handler, World},
    release::Stage,
};
use std::fs::File;
use wasmtime::component::Component;

/// Linkers of all worlds.
pub struct Linkers {
    edge: EdgeLinkers,
    app: AppLinker,
    live: LiveLinker,
}

impl Linkers {
    /// Makes the linkers of a process, for its engines.
    ///
    /// # Errors
    /// Never in practice: two definitions of one name.
    pub(crate) fn new(engines: &Engines) -> wasmtime::Result<Self> {
        Ok(Self {
            edge: EdgeLinkers::new(engines)?,
            app: AppLinker::new(engines)?,
            live: LiveLinker::new(engines)?,
        })
    }

    /// Makes the linkers for a runtime.
    ///
    /// # Errors
    /// Never in practice: two definitions of one name.
    pub fn for_runtime(runtime: &Runtime) -> anyhow::Result<Self> {
        Self::new(runtime.engines()).map_err(|error| anyhow::anyhow!("{error:#}"))
    }

    /// Maps native code of an edge handler and links it.
    ///
    /// # Errors
    /// Stage `compile` when the code is not of this host, `link` when it does not fit its world.
    pub fn edge_handler(
        &self,
        runtime: &Runtime,
        native: &File,
        handler: &Handler,
    ) -> Result<EdgeHandler, BuildFault> {
        let (pool, component) = map(runtime, native, handler)?;
        let linked = self.edge.link(&component, handler.world).map_err(unfit)?;
        Ok(EdgeHandler::new(linked, pool, handler))
    }

    /// Maps native code of a live handler and links it.
    ///
    /// # Errors
    /// Stage `compile` when the code is not of this host, `link` when it does not fit its world.
    pub fn live_handler(
        &self,
        runtime: &Runtime,
        native: &File,
        handler: &Handler,
    ) -> Result<LiveHandler, BuildFault> {
        let (pool, component) = map(runtime, native, handler)?;
        let linked = self.live.link(&component, handler.world).map_err(unfit)?;
        Ok(LiveHandler::new(linked, pool, handler))
    }

    /// Maps native code of an app handler and links it. The guest reads the context's settings, all its life.
    ///
    /// # Errors
    /// Stage `compile` when the code is not of this host, `link` when it does not fit its world.
    pub fn app_handler(
        &self,
        runtime: &Runtime,
        native: &File,
        handler: &Handler,
        context: &HandlerContext,
    ) -> Result<AppHandler, BuildFault> {
        let (pool, component) = map(runtime, native, handler)?;
        let linked = self.app.link(&component, handler.world).map_err(unfit)?;
        Ok(AppHandler::new(linked, pool, handler, context))
    }

    /// Whether a component fits a world.
    pub(crate) fn check(&self, component: &Component, world: World) -> Result<(), BuildFault> {
        let result = match world {
            World::Edge | World::EdgeWasi => self.edge.link(component, world).map(drop),
            World::App02 | World::App03 => self.app.link(component, world).map(drop),
            World::Live | World::LiveStateful => self.live.link(component, world).map(drop),
        };
        result.map_err(unfit)
    }
}

fn map(
    runtime: &Runtime,
    native: &File,
    handler: &Handler,
) -> Result<(Pool, Component), BuildFault> {
    let pool = runtime.pool(handler.world);
    let component = native::map(&pool.engine, native)?;
    Ok((pool, component))
}

fn unfit(error: wasmtime::Error) -> BuildFault {
    BuildFault::new(Stage::Link, &error)
}
