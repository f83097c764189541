//! Live components, linked for either of their worlds.

use crate::{
    bindings::{host, live, live_stateful},
    engine::Engines,
    interfaces::link_short_texts,
    state::{HostState, LiveState},
};
use live_stateful::protoplex::live as interfaces;
use protoplex_wire::manifest::World;
use wasmtime::{
    Result,
    component::{Component, HasSelf, Linker},
};

/// A component of which instances can be made.
pub(crate) enum LinkedLive {
    Plain(live::LivePre<LiveState>),
    Stateful(live_stateful::LiveStatefulPre<LiveState>),
}

/// The linker of live components. Both worlds import the same: package `protoplex:host`, and what concerns connections.
pub(crate) struct LiveLinker(Linker<LiveState>);

impl LiveLinker {
    pub(crate) fn new(engines: &Engines) -> Result<Self> {
        fn own(state: &mut LiveState) -> &mut LiveState {
            state
        }
        let mut linker = Linker::new(engines.of(World::Live));
        host::Imports::add_to_linker::<_, HasSelf<HostState>>(
            &mut linker,
            |state: &mut LiveState| &mut state.host,
        )?;
        link_short_texts(&mut linker, |state| &mut state.host)?;
        interfaces::types::add_to_linker::<_, HasSelf<_>>(&mut linker, own)?;
        interfaces::connection::add_to_linker::<_, HasSelf<_>>(&mut linker, own)?;
        interfaces::channels::add_to_linker::<_, HasSelf<_>>(&mut linker, own)?;
        Ok(Self(linker))
    }

    /// Links a component of world `live`, or of `live-stateful`.
    pub(crate) fn link(&self, component: &Component, world: World) -> Result<LinkedLive> {
        let pre = self.0.instantiate_pre(component)?;
        Ok(match world {
            World::Live => LinkedLive::Plain(live::LivePre::new(pre)?),
            _ => LinkedLive::Stateful(live_stateful::LiveStatefulPre::new(pre)?),
        })
    }
}
