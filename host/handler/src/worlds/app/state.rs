//! Data of a store that runs an app guest.

use crate::{
    cpu::CpuMeter,
    interfaces::{
        outgoing::{Death, Outgoing},
        output::GuestOutput,
    },
    limiter::{Limiter, RESOURCES_MAX},
    store::StoreData,
};
use protoplex_wire::manifest::Limits;
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// What every instance of one handler is made with.
pub(super) struct GuestConfig {
    pub(super) name: Arc<str>,
    pub(super) limits: Limits,
    pub(super) outgoing: Outgoing,
    /// Environment variables.
    pub(super) environment: Vec<(String, String)>,
    pub(super) settings: Arc<WasiConfigVariables>,
}

/// Data of a store that runs an app guest.
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
    pub(super) fn new(guest: &GuestConfig) -> Self {
        let output = |stream| GuestOutput {
            handler: Arc::clone(&guest.name),
            stream,
        };
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            table,
            wasi: WasiCtxBuilder::new()
                .stdout(output("stdout"))
                .stderr(output("stderr"))
                .envs(&guest.environment)
                .build(),
            http: WasiHttpCtx::new(),
            outgoing: guest.outgoing.for_instance(),
            settings: Arc::clone(&guest.settings),
            limiter: Limiter::new(&guest.limits),
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

impl StoreData for AppState {
    fn limiter(&mut self) -> &mut Limiter {
        &mut self.limiter
    }

    fn meter(&self) -> &CpuMeter {
        &self.meter
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
