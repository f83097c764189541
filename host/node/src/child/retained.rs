//! The builds of a child: the one that answers, the ones before it, and those that are being prepared.

use super::build::LoadedBuild;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use protoplex_wire::BuildId;
use std::sync::Arc;

/// Builds before the active one that stay loaded: rollback is a pointer switch, and a request that another node
/// began on one of them can go on here.
const PREVIOUS_MAX: usize = 2;

#[derive(Default)]
pub(super) struct Builds {
    active: ArcSwapOption<LoadedBuild>,
    /// Newest first, without the active one.
    previous: Mutex<Vec<Arc<LoadedBuild>>>,
    prepared: Mutex<Vec<Arc<LoadedBuild>>>,
}

impl Builds {
    /// The build for a request that names none.
    pub(super) fn active(&self) -> arc_swap::Guard<Option<Arc<LoadedBuild>>> {
        self.active.load()
    }

    /// A build that is still loaded.
    pub(super) fn held(&self, id: &BuildId) -> Option<Arc<LoadedBuild>> {
        self.all().into_iter().find(|build| build.id == *id)
    }

    /// Everything loaded, so that unchanged handlers can be carried over.
    pub(super) fn all(&self) -> Vec<Arc<LoadedBuild>> {
        let mut all: Vec<_> = self.active.load_full().into_iter().collect();
        all.extend(self.previous.lock().iter().cloned());
        all.extend(self.prepared.lock().iter().cloned());
        all
    }

    pub(super) fn add_prepared(&self, build: Arc<LoadedBuild>) {
        let mut prepared = self.prepared.lock();
        prepared.retain(|other| other.id != build.id);
        prepared.push(build);
    }

    pub(super) fn abandon(&self, id: &BuildId) {
        self.prepared.lock().retain(|build| build.id != *id);
    }

    /// The switch. Returns the build that answered before, where it was another.
    pub(super) fn activate(&self, id: &BuildId) -> Result<Option<Arc<LoadedBuild>>, String> {
        let build = self
            .held(id)
            .ok_or_else(|| format!("build {} was not prepared here", id.short()))?;
        self.abandon(id);
        let old = self
            .active
            .swap(Some(Arc::clone(&build)))
            .filter(|old| old.id != build.id);
        let mut previous = self.previous.lock();
        previous.retain(|other| other.id != build.id);
        if let Some(old) = &old {
            previous.insert(0, Arc::clone(old));
        }
        previous.truncate(PREVIOUS_MAX);
        Ok(old)
    }
}
