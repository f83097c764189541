//! From a verified component to native code of this machine.

use crate::{Linkers, engine, engine::Engines, inspect};
use protoplex_wire::{Digest, release::Stage};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};
use wasmtime::component::Component;

/// Why a component cannot run here.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{stage}: {reason}")]
pub struct BuildFault {
    /// Where.
    pub stage: Stage,
    /// Why, for people.
    pub reason: String,
}

impl BuildFault {
    pub(crate) fn new(stage: Stage, error: &wasmtime::Error) -> Self {
        Self {
            stage,
            reason: format!("{error:#}"),
        }
    }
}

/// The name of a component's file in the native cache: its digest, the engines' compatibility hashes, and the exact
/// version of the host. Which engine it is for follows from the component.
pub fn native_file_name(component: &Digest) -> String {
    static SUFFIX: LazyLock<String> = LazyLock::new(|| {
        let mut hasher = DefaultHasher::new();
        engine::host_version().hash(&mut hasher);
        if let Ok(Engines { plain, concurrent }) = Engines::compiling() {
            plain.precompile_compatibility_hash().hash(&mut hasher);
            concurrent.precompile_compatibility_hash().hash(&mut hasher);
        }
        format!("{:016x}", hasher.finish())
    });
    format!("{component}-{}.native", *SUFFIX)
}

/// Compiles and type-checks a component. Takes seconds of CPU and hundreds of megabytes for a large one, so it runs
/// in a process of its own (`protoplex compile`).
///
/// # Errors
/// Stage `compile` or `link`, with the reason.
pub fn precompile(wasm: &[u8]) -> Result<Vec<u8>, BuildFault> {
    let inspection = inspect(wasm)?;
    let engines = Engines::compiling().map_err(|error| BuildFault::new(Stage::Compile, &error))?;
    let component = Component::new(engines.of(inspection.world), wasm)
        .map_err(|error| BuildFault::new(Stage::Compile, &error))?;
    let linkers = Linkers::new(&engines).map_err(|error| BuildFault::new(Stage::Link, &error))?;
    linkers.check(&component, inspection.world)?;
    component
        .serialize()
        .map_err(|error| BuildFault::new(Stage::Compile, &error))
}
