//! App components, linked for `wasi:http` 0.2 or 0.3.

use super::state::AppState;
use crate::engine::Engines;
use protoplex_wire::manifest::World;
use wasmtime::{
    Result,
    component::{Component, Linker},
};
use wasmtime_wasi_http::{
    handler::ProxyPre, p2::bindings::ProxyPre as App02Pre, p3::bindings::ServicePre as App03Pre,
};

/// The linker of app components, which has both versions of WASI, and settings as `wasi:config`.
pub(crate) struct AppLinker(Linker<AppState>);

impl AppLinker {
    pub(crate) fn new(engines: &Engines) -> Result<Self> {
        let mut linker = Linker::new(engines.of(World::App03));
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_config::add_to_linker(&mut linker, AppState::settings)?;
        Ok(Self(linker))
    }

    /// Links a component of world `app-0.2`, or of `app-0.3`.
    pub(crate) fn link(&self, component: &Component, world: World) -> Result<ProxyPre<AppState>> {
        let pre = self.0.instantiate_pre(component)?;
        Ok(match world {
            World::App02 => ProxyPre::P2(App02Pre::new(pre)?),
            _ => ProxyPre::P3(App03Pre::new(pre)?),
        })
    }
}
