//! From a verified component to native code of this machine.

use crate::{BuildFault, Linkers, engine::Engines, inspect};
use protoplex_wire::release::Stage;
use wasmtime::component::Component;

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
