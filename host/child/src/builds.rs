//! The builds of a child: the one that answers, the ones before it, and those that are being prepared.

use super::build::LoadedBuild;
use arc_swap::{ArcSwap, Guard};
use protoplex_wire::BuildId;
use std::sync::Arc;

/// Builds before the active one that stay loaded: rollback is a pointer switch, and a request that another node
/// began on one of them can go on here.
const PREVIOUS_MAX: usize = 2;

/// The builds that are loaded at one moment. It is replaced as a whole: a request that names a build finds it during a
/// switch too.
#[derive(Clone, Default)]
pub struct LoadedBuilds {
    /// The build for a request that names none.
    pub active: Option<Arc<LoadedBuild>>,
    /// Builds that were active before, newest first.
    previous: Vec<Arc<LoadedBuild>>,
    prepared: Vec<Arc<LoadedBuild>>,
}

impl LoadedBuilds {
    /// A build that is still loaded.
    pub(super) fn named(&self, id: &BuildId) -> Option<&Arc<LoadedBuild>> {
        self.all().find(|build| build.id == *id)
    }

    /// Whether a build is the one for requests that name none.
    pub(super) fn is_active(&self, build: &Arc<LoadedBuild>) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| Arc::ptr_eq(active, build))
    }

    /// Whether a build was active before the present one. A build that is only prepared here may be active elsewhere
    /// already.
    pub fn is_past(&self, build: &Arc<LoadedBuild>) -> bool {
        self.previous.iter().any(|past| Arc::ptr_eq(past, build))
    }

    /// Everything loaded, the active one first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<LoadedBuild>> {
        self.active
            .iter()
            .chain(&self.previous)
            .chain(&self.prepared)
    }
}

/// The builds of a child behind one pointer: the control loop writes it, every request reads it.
#[derive(Default)]
pub struct Builds(ArcSwap<LoadedBuilds>);

impl Builds {
    /// The builds that are loaded now.
    pub fn now(&self) -> Guard<Arc<LoadedBuilds>> {
        self.0.load()
    }

    fn change(&self, change: impl FnOnce(&mut LoadedBuilds)) {
        let mut held = LoadedBuilds::clone(&self.now());
        change(&mut held);
        self.0.store(Arc::new(held));
    }

    pub(super) fn add_prepared(&self, build: Arc<LoadedBuild>) {
        self.change(|held| {
            held.prepared.retain(|other| other.id != build.id);
            held.prepared.push(build);
        });
    }

    pub(super) fn abandon(&self, id: &BuildId) {
        self.change(|held| held.prepared.retain(|build| build.id != *id));
    }

    /// The switch. Returns the build that answered before, where it was another.
    pub(super) fn activate(&self, id: &BuildId) -> Result<Option<Arc<LoadedBuild>>, String> {
        let build = self
            .now()
            .named(id)
            .cloned()
            .ok_or_else(|| format!("build {} was not prepared here", id.short()))?;
        let mut old = None;
        self.change(|held| {
            old = held.active.replace(build).filter(|old| old.id != *id);
            held.prepared.retain(|other| other.id != *id);
            held.previous.retain(|other| other.id != *id);
            held.previous.splice(0..0, old.clone());
            held.previous.truncate(PREVIOUS_MAX);
        });
        Ok(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_previous_builds_stay_loaded_and_rollback_reuses_them() {
        let builds = Builds::default();
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| Arc::new(LoadedBuild::empty(name)));
        for build in [&a, &b, &c] {
            builds.add_prepared(Arc::clone(build));
            builds.activate(&build.id).unwrap();
        }
        // Rollback: nothing is loaded anew.
        let old = builds.activate(&a.id).unwrap();
        assert_eq!(old.map(|old| old.id), Some(c.id));
        assert!(
            builds
                .now()
                .active
                .as_ref()
                .is_some_and(|now| Arc::ptr_eq(now, &a))
        );
        builds.add_prepared(Arc::clone(&d));
        builds.activate(&d.id).unwrap();
        for held in [&a, &c, &d] {
            assert!(builds.now().named(&held.id).is_some());
        }
        assert!(builds.now().named(&b.id).is_none(), "the oldest goes");
        assert_eq!(Arc::strong_count(&b), 1, "and its memory with it");
        assert!(builds.activate(&b.id).is_err());
    }
}
