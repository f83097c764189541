//! Edge components, linked for synchronous or for asynchronous calls.

use crate::{
    bindings::{edge, edge_async},
    engine::Engines,
    interfaces::link_short_texts,
    state::{HostState, WasiState},
};
use protoplex_wire::manifest::World;
use wasmtime::{
    Result,
    component::{Component, HasSelf, Linker},
};

/// A component of which instances can be made.
pub(crate) enum LinkedEdge {
    Sync(edge::EdgePre<HostState>),
    Async(edge_async::EdgePre<WasiState>),
}

/// Linkers of edge components. A store with one async import refuses synchronous calls, so each kind of call has its own.
pub(crate) struct EdgeLinkers {
    sync: Linker<HostState>,
    wasi: Linker<WasiState>,
}

impl EdgeLinkers {
    pub(crate) fn new(engines: &Engines) -> Result<Self> {
        let mut sync = Linker::new(engines.of(World::Edge));
        edge::Edge::add_to_linker::<_, HasSelf<_>>(&mut sync, |state: &mut HostState| state)?;
        link_short_texts(&mut sync, |state| state)?;
        let mut wasi = Linker::new(engines.of(World::EdgeWasi));
        edge_async::Edge::add_to_linker::<_, HasSelf<HostState>>(
            &mut wasi,
            |state: &mut WasiState| &mut state.host,
        )?;
        link_short_texts(&mut wasi, |state| &mut state.host)?;
        wasmtime_wasi::p2::add_to_linker_async(&mut wasi)?;
        Ok(Self { sync, wasi })
    }

    /// Links a component of world `edge`, or of `edge-wasi`.
    pub(crate) fn link(&self, component: &Component, world: World) -> Result<LinkedEdge> {
        Ok(match world {
            World::EdgeWasi => LinkedEdge::Async(edge_async::EdgePre::new(
                self.wasi.instantiate_pre(component)?,
            )?),
            _ => LinkedEdge::Sync(edge::EdgePre::new(self.sync.instantiate_pre(component)?)?),
        })
    }
}
