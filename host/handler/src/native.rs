//! Native code: the name of its file, and the way from a sealed file to code that runs.

use crate::{BuildFault, engine, engine::Engines};
use protoplex_wire::{Digest, release::Stage};
use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    os::fd::AsRawFd,
    sync::LazyLock,
};
use wasmtime::{Engine, component::Component};

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

/// Maps native code from a sealed file.
pub(crate) fn map(engine: &Engine, native: &File) -> Result<Component, BuildFault> {
    let path = format!("/proc/self/fd/{}", native.as_raw_fd());
    // SAFETY: the file is a sealed memfd that the parent filled from its own cache after checking the file's MAC, so
    // it is what our own compiler wrote, and nobody can change it while it is mapped.
    let component = unsafe { Component::deserialize_file(engine, path) };
    let component = component.map_err(|error| BuildFault::new(Stage::Compile, &error))?;
    component
        .initialize_copy_on_write_image()
        .map_err(|error| BuildFault::new(Stage::WarmUp, &error))?;
    Ok(component)
}
