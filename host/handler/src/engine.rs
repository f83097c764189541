//! The engines of a process: two for all builds, each with its instance pool, and one ticker.
//!
//! Keeping account of tasks that run at the same time in one store costs a call about a microsecond, and a call that
//! cannot wait needs none of it: edge handlers without WASI run on an engine that has no such thing.

use crate::{
    pool::{CORES_PER_INSTANCE, Pool, TABLES_PER_INSTANCE},
    ticker::Ticker,
};
use protoplex_wire::manifest::World;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, ModuleVersionStrategy,
    PoolingAllocationConfig,
};

/// Raised with every change of ours that makes old native code unusable.
const NATIVE_FORMAT: u32 = 2;
/// The version of wasmtime, patch included: its patch releases fix code generation too, so old code must go.
const WASMTIME_VERSION: &str = "48.0.8";
/// The largest linear memory a manifest may ask for; a slot of the pool has to hold it.
const SLOT_MEMORY_BYTES_MAX: usize = 1 << 30;
/// The largest table a manifest may ask for.
const SLOT_TABLE_ELEMENTS_MAX: usize = 1 << 20;
/// Large JavaScript and Python components need about 10 MB of metadata for an instance.
const INSTANCE_METADATA_BYTES_MAX: usize = 16 << 20;
/// Bytes that stay resident in a freed slot, where the kernel can tell which pages were touched.
const KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// Size of the instance pool.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeConfig {
    /// Instances at once in each of the pools, of all handlers and of two builds at peak. Beyond it: 503.
    pub instances_max: u32,
}

/// A thousand requests in one child at the same time are more than its core can answer in a deadline.
const INSTANCES_MAX: u32 = 1_000;

impl RuntimeConfig {
    /// The configured size; 0 is the default.
    pub fn of(instances_max: u32) -> Self {
        let instances_max = match instances_max {
            0 => INSTANCES_MAX,
            asked => asked,
        };
        Self { instances_max }
    }
}

/// One engine for calls that neither wait nor overlap, and one for all others.
#[derive(Clone)]
pub(crate) struct Engines {
    pub(crate) plain: Engine,
    pub(crate) concurrent: Engine,
}

impl Engines {
    fn new(config: RuntimeConfig) -> wasmtime::Result<Self> {
        Ok(Self {
            plain: pooled(config, false)?,
            concurrent: pooled(config, true)?,
        })
    }

    /// Engines that compile and link but never run: the same code generation with the smallest pools.
    pub(crate) fn compiling() -> wasmtime::Result<Self> {
        Self::new(RuntimeConfig { instances_max: 1 })
    }

    /// The one that a world runs on.
    pub(crate) fn of(&self, world: World) -> &Engine {
        match world {
            World::Edge | World::Live | World::LiveStateful => &self.plain,
            World::EdgeWasi | World::App02 | World::App03 => &self.concurrent,
        }
    }

    fn both(&self) -> [&Engine; 2] {
        [&self.plain, &self.concurrent]
    }
}

/// The engines and the thread that ticks their epochs.
pub struct Runtime {
    engines: Engines,
    instances_max: u32,
    _ticker: Ticker,
}

impl Runtime {
    /// Reserves the pools and starts the ticker.
    ///
    /// # Errors
    /// The address space has no room for the pool: there is no silent fall-back to slow allocation.
    pub fn start(config: RuntimeConfig) -> anyhow::Result<Self> {
        let engines = Engines::new(config).map_err(|error| {
            anyhow::anyhow!(
                "the pool of {} instances does not fit into this process's address space ({error:#}); \
                 raise `ulimit -v` or vm.max_map_count, or lower instances_max",
                config.instances_max
            )
        })?;
        let ticker = Ticker::start(engines.both().map(Clone::clone))?;
        Ok(Self {
            engines,
            instances_max: config.instances_max,
            _ticker: ticker,
        })
    }

    /// The engines.
    pub(crate) fn engines(&self) -> &Engines {
        &self.engines
    }

    /// The pool that instances of a world are made in.
    pub(crate) fn pool(&self, world: World) -> Pool {
        Pool::new(self.engines.of(world).clone(), self.instances_max)
    }

    /// Component instances alive now.
    pub fn instances(&self) -> u64 {
        let pools = self.engines.both().map(Engine::pooling_allocator_metrics);
        let pools = pools.into_iter().flatten();
        pools.map(|pool| pool.component_instances()).sum()
    }

    /// Whether freed slots keep pages resident (Linux 6.7 or newer).
    pub fn keeps_resident(&self) -> bool {
        PoolingAllocationConfig::is_pagemap_scan_available()
    }
}

/// Settings that decide how code is generated, and so what native code is compatible with.
fn base(is_concurrent: bool) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    if is_concurrent {
        config.wasm_component_model_async(true);
        config.wasm_component_model_more_async_builtins(true);
    } else {
        config.concurrency_support(false);
    }
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
    pool.total_core_instances(config.instances_max * CORES_PER_INSTANCE);
    pool.total_memories(config.instances_max);
    pool.total_tables(config.instances_max * TABLES_PER_INSTANCE);
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

fn pooled(config: RuntimeConfig, is_concurrent: bool) -> wasmtime::Result<Engine> {
    let mut engine = base(is_concurrent);
    engine.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)));
    Engine::new(&engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_above_the_address_space_is_refused_with_a_remedy() {
        let refused = Runtime::start(RuntimeConfig::of(1_000_000)).err();
        let text = format!("{:#}", refused.expect("4 PiB do not fit"));
        for words in ["1000000 instances", "address space", "lower instances_max"] {
            assert!(text.contains(words), "{text}");
        }
    }
}
