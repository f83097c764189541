//! The Seed's check of a component at push: that it becomes native code, and is of the world it is said to be.

use protoplex_handler::BuildFault;
use protoplex_native::NativeCache;
use protoplex_seed::ComponentCheck;
use protoplex_wire::{manifest::Handler, release::Stage};
use std::path::Path;

/// Component check of the Seed: compiles in a process of its own, into the cache that this machine's nodes use too.
pub struct CompileCheck {
    cache: NativeCache,
}

impl CompileCheck {
    /// Opens the cache in a folder, for so many bytes; 0 is as many as a node's own.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn new(native: &Path, native_bytes_max: u64) -> anyhow::Result<Self> {
        Ok(Self {
            cache: NativeCache::open(native, native_bytes_max)?,
        })
    }
}

impl ComponentCheck for CompileCheck {
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
        let code = self.cache.load(&handler.component, wasm).await;
        code.map(drop).map_err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_seed::config::SeedConfig;
    use std::{
        fs,
        time::{Duration, SystemTime},
    };

    #[test]
    fn a_seed_keeps_as_much_native_code_as_its_configuration_says() {
        let text = |more: &str| {
            format!(
                r#"{{"data":"/d","ca":"/c","cert":"/c","key":"/k","release_keys":[],"bind":"127.0.0.1","port":0,
                "prepare_timeout_ms":1,"activate_timeout_ms":1{more}}}"#
            )
        };
        for (more, left) in [("", true), (r#","native_bytes_max":10"#, false)] {
            let config: SeedConfig = serde_json::from_str(&text(more)).expect("a configuration");
            let folder = tempfile::tempdir().expect("a folder");
            let old = folder.path().join("a.native");
            fs::write(&old, [0; 20]).expect("a file");
            let day = SystemTime::now() - Duration::from_secs(86_400);
            let file = fs::File::open(&old).expect("it is there");
            file.set_modified(day).expect("its time");
            CompileCheck::new(folder.path(), config.native_bytes_max).expect("a cache");
            assert_eq!(old.exists(), left, "{more}");
        }
    }
}
