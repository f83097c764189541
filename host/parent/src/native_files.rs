//! Native code as sealed memory files that children map: one file for a component, however many builds use it.

use parking_lot::Mutex;
use protoplex_control::socket::sealed_memfd;
use protoplex_handler::BuildFault;
use protoplex_native::NativeCache;
use protoplex_wire::{Digest, release::Stage};
use std::{
    collections::HashMap,
    io::Write,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Weak},
};

/// The memory files that are in use, and the cache that they are filled from.
pub(super) struct NativeFiles {
    cache: NativeCache,
    in_use: Mutex<HashMap<Digest, Weak<OwnedFd>>>,
}

impl NativeFiles {
    pub(super) fn new(cache: NativeCache) -> Self {
        Self {
            cache,
            in_use: Mutex::default(),
        }
    }

    /// The file of a verified component's native code, which is compiled where that has not been done.
    ///
    /// # Errors
    /// Stage `compile` or `link`.
    pub(super) async fn load(
        &self,
        component: &Digest,
        wasm: &Path,
    ) -> Result<Arc<OwnedFd>, BuildFault> {
        if let Some(fd) = self.in_use.lock().get(component).and_then(Weak::upgrade) {
            return Ok(fd);
        }
        let code = self.cache.load(component, wasm).await?;
        let fd = sealed_memfd("native", |file| file.write_all(&code));
        let fd = Arc::new(fd.map_err(|error| BuildFault {
            stage: Stage::Compile,
            reason: format!("no memory file for native code: {error}"),
        })?);
        let mut in_use = self.in_use.lock();
        in_use.retain(|_, fd| fd.strong_count() > 0);
        in_use.insert(*component, Arc::downgrade(&fd));
        Ok(fd)
    }
}
