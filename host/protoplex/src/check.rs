//! What the Seed asks of a component at push: that it becomes native code, and is of the world it is said to be.

use protoplex_handler::BuildFault;
use protoplex_node::parent::native::NativeCache;
use protoplex_seed::ComponentCheck;
use protoplex_wire::{manifest::Handler, release::Stage};
use std::path::Path;

/// Compiles in a process of its own, into the cache that this machine's nodes use too.
pub struct Check {
    cache: NativeCache,
}

impl Check {
    /// With the cache in that folder.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn new(native: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            cache: NativeCache::open(native, 0)?,
        })
    }
}

impl ComponentCheck for Check {
    async fn check(&self, _: &str, handler: &Handler, wasm: &Path) -> Result<(), (Stage, String)> {
        let fault = |fault: BuildFault| (fault.stage, fault.reason);
        let content = tokio::fs::read(wasm).await;
        let content = content.map_err(|error| (Stage::Fetch, error.to_string()))?;
        let found = protoplex_handler::inspect(&content).map_err(fault)?;
        if found.world != handler.world {
            let reason = format!(
                "the component is {}, and the manifest says {}; push it again",
                found.world, handler.world
            );
            return Err((Stage::Link, reason));
        }
        self.cache
            .ensure(&handler.component, wasm)
            .await
            .map_err(fault)?;
        Ok(())
    }
}
