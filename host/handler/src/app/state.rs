//! Data of a store that runs an app guest.

use super::instance::Factory;
use crate::{
    cpu::CpuMeter,
    guest_output::GuestOutput,
    limiter::Limiter,
    outgoing::{Death, Outgoing},
};
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Resources that one store may hold: requests, responses, fields, streams.
pub(crate) const RESOURCES_MAX: usize = 10_000;

pub(crate) struct AppState {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    settings: Arc<WasiConfigVariables>,
    pub(super) limiter: Limiter,
    pub(super) meter: CpuMeter,
}

impl AppState {
    pub(super) fn new(factory: &Factory) -> Self {
        let output = |stream| GuestOutput {
            handler: Arc::clone(&factory.name),
            stream,
        };
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            table,
            wasi: WasiCtxBuilder::new()
                .stdout(output("stdout"))
                .stderr(output("stderr"))
                .envs(&factory.environment)
                .build(),
            http: WasiHttpCtx::new(),
            outgoing: factory.outgoing.for_instance(),
            settings: Arc::clone(&factory.settings),
            limiter: Limiter::new(&factory.limits),
            meter: CpuMeter::default(),
        }
    }

    /// Told when the instance dies.
    pub(super) fn death(&self) -> Death {
        self.outgoing.death().clone()
    }

    pub(crate) fn settings(&mut self) -> WasiConfig<'_> {
        WasiConfig::new(&self.settings)
    }
}

impl WasiView for AppState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for AppState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outgoing,
        }
    }
}
