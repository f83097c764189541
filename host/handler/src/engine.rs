//! The engine of a process: one for all builds, with its instance pool and its ticker.

use crate::cpu::TICK;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, ModuleVersionStrategy,
    PoolingAllocationConfig,
};

/// Raised with every change of ours that makes old native code unusable.
const NATIVE_FORMAT: u32 = 1;
/// The version of wasmtime, patch included: its patch releases fix code generation too, so old code must go.
const WASMTIME_VERSION: &str = "48.0.8";
/// The largest linear memory a manifest may ask for; a slot of the pool has to hold it.
const SLOT_MEMORY_BYTES_MAX: usize = 1 << 30;
/// The largest table a manifest may ask for.
const SLOT_TABLE_ELEMENTS_MAX: usize = 1 << 20;
/// Large JavaScript and Python components need about 10 MB of metadata for an instance.
const INSTANCE_METADATA_BYTES_MAX: usize = 16 << 20;
/// What stays resident in a freed slot, where the kernel can tell which pages were touched.
const KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// How large the pool is.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeConfig {
    /// Instances at once, of all handlers and of two builds at peak. Beyond it: 503.
    pub instances_max: u32,
}

/// A thousand requests in one child at the same time are more than its core can answer in a deadline.
const INSTANCES_MAX: u32 = 1_000;

impl RuntimeConfig {
    /// As configured; 0 is the default.
    pub fn of(instances_max: u32) -> Self {
        let instances_max = match instances_max {
            0 => INSTANCES_MAX,
            asked => asked,
        };
        Self { instances_max }
    }
}

/// The engine and the thread that ticks its epoch.
pub struct Runtime {
    engine: Engine,
    stop: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

impl Runtime {
    /// Reserves the pool and starts the ticker.
    ///
    /// # Errors
    /// Where the address space has no room for the pool: there is no silent fall-back to slow allocation.
    pub fn start(config: RuntimeConfig) -> anyhow::Result<Self> {
        let engine = pooled(config).map_err(|error| {
            anyhow::anyhow!(
                "the pool of {} instances does not fit into this process's address space ({error:#}); \
                 raise `ulimit -v` or vm.max_map_count, or lower instances_max",
                config.instances_max
            )
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let ticker = std::thread::Builder::new().name("epoch".into()).spawn({
            let (engine, stop) = (engine.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(TICK);
                    engine.increment_epoch();
                }
            }
        })?;
        Ok(Self {
            engine,
            stop,
            ticker: Some(ticker),
        })
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Component instances alive now.
    pub fn instances(&self) -> u64 {
        self.engine
            .pooling_allocator_metrics()
            .map_or(0, |metrics| metrics.component_instances())
    }

    /// Whether freed slots keep pages resident (Linux 6.7 or newer).
    pub fn keeps_resident(&self) -> bool {
        PoolingAllocationConfig::is_pagemap_scan_available()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            drop(ticker.join());
        }
    }
}

/// What decides how code is generated, and so what native code is compatible with.
fn base() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.wasm_component_model_async(true);
    config.wasm_component_model_more_async_builtins(true);
    config.epoch_interruption(true);
    config
        .module_version(ModuleVersionStrategy::Custom(host_version()))
        .expect("the version is short");
    config
}

/// The part of a native file's name that stands for this program.
pub(crate) fn host_version() -> String {
    format!(
        "protoplex-{}+wasmtime-{WASMTIME_VERSION}+{NATIVE_FORMAT}",
        env!("CARGO_PKG_VERSION")
    )
}

fn pool(config: RuntimeConfig) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(config.instances_max);
    pool.total_core_instances(config.instances_max * 4);
    pool.total_memories(config.instances_max);
    pool.total_tables(config.instances_max * 2);
    pool.total_stacks(config.instances_max);
    pool.max_memory_size(SLOT_MEMORY_BYTES_MAX);
    pool.table_elements(SLOT_TABLE_ELEMENTS_MAX);
    pool.max_component_instance_size(INSTANCE_METADATA_BYTES_MAX);
    pool.max_core_instance_size(INSTANCE_METADATA_BYTES_MAX);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes);
        pool.linear_memory_keep_resident(KEEP_RESIDENT_BYTES);
        pool.table_keep_resident(KEEP_RESIDENT_BYTES);
    }
    pool
}

fn pooled(config: RuntimeConfig) -> wasmtime::Result<Engine> {
    let mut engine = base();
    engine.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)));
    Engine::new(&engine)
}

/// An engine that compiles and links but never runs: the same code generation with the smallest pool.
pub(crate) fn compiler() -> wasmtime::Result<Engine> {
    pooled(RuntimeConfig { instances_max: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_without_room_in_the_address_space_is_refused_and_says_what_to_do() {
        let refused = Runtime::start(RuntimeConfig::of(1_000_000)).err();
        let text = format!("{:#}", refused.expect("4 PiB do not fit"));
        for words in ["1000000 instances", "address space", "lower instances_max"] {
            assert!(text.contains(words), "{text}");
        }
    }
}
