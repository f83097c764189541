//! Data of a store whose edge guest imports WASI beside `protoplex:host`.

use super::host::HostState;
use crate::{
    cpu::CpuMeter,
    limiter::{Limiter, RESOURCES_MAX},
    store::StoreData,
};
use protoplex_wire::manifest::Limits;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

pub(crate) struct WasiState {
    pub(crate) host: HostState,
    table: ResourceTable,
    wasi: WasiCtx,
}

impl WasiState {
    /// `environment` holds the guest's environment variables.
    pub(crate) fn new(limits: &Limits, environment: &[(String, String)]) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            host: HostState::new(limits),
            table,
            wasi: WasiCtxBuilder::new().envs(environment).build(),
        }
    }
}

impl StoreData for WasiState {
    fn limiter(&mut self) -> &mut Limiter {
        &mut self.host.limiter
    }

    fn meter(&self) -> &CpuMeter {
        &self.host.meter
    }
}

impl WasiView for WasiState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}
