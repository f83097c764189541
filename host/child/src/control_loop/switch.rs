//! Loads builds, switches to them by one pointer, and ends what an old build still does at its drain deadline.

use super::start::Child;
use crate::{
    build::{LoadedBuild, Loader},
    probe,
};
use protoplex_control::messages::FromChild;
use protoplex_handler::BuildFault;
use protoplex_wire::{BuildId, Digest, ReleaseId, release::Stage};
use std::{
    collections::HashSet,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

impl Child {
    /// Loads a build and warms it up. `fds` are its manifest and its asset pack.
    pub(super) async fn prepare(
        &mut self,
        id: BuildId,
        fds: Vec<OwnedFd>,
    ) -> Result<(), BuildFault> {
        if self.context.builds.now().named(&id).is_some() {
            return Ok(());
        }
        let [manifest, pack] = <[OwnedFd; 2]>::try_from(fds).map_err(|fds| BuildFault {
            stage: Stage::Protocol,
            reason: format!(
                "`prepare` came with {} files instead of a manifest and an asset pack",
                fds.len()
            ),
        })?;
        let loaded: Vec<_> = self.context.builds.now().all().cloned().collect();
        let loader = Loader {
            role: self.config.role,
            means: &self.context.servers.means,
            runtime: &self.runtime,
            linkers: &self.linkers,
            metrics: &self.context.metrics,
            native: &self.native,
            loaded: &loaded,
        };
        let build = Arc::new(LoadedBuild::load(&loader, id, manifest, pack)?);
        probe::warm(&build).await?;
        self.context.builds.add_prepared(build);
        Ok(())
    }

    /// Switches to a prepared build, and begins to accept if it is the first. Returns the answer for the parent.
    pub(super) fn activate(&mut self, release: ReleaseId, id: BuildId) -> FromChild {
        let started = Instant::now();
        let failed = |stage, reason| FromChild::Failed {
            release,
            build: id,
            stage,
            reason,
        };
        let old = match self.context.builds.activate(&id) {
            Ok(old) => old,
            Err(reason) => return failed(Stage::Protocol, reason),
        };
        let took = started.elapsed();
        let metrics = &self.context.metrics;
        metrics.swaps.fetch_add(1, Relaxed);
        metrics
            .swap_ns
            .fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        if let Some(new) = &self.context.builds.now().active {
            self.role.build_activated(new);
        }
        if let (Some(old), Some(new)) = (old, &self.context.builds.now().active) {
            tracing::info!(
                build = id.short(),
                before = old.id.short(),
                took_us = took.as_micros(),
                "switched to another build"
            );
            old.trim_pools(new);
            self.expire_after_drain(old);
        }
        self.forget_native();
        match self.listen(self.config.index) {
            Ok(()) => FromChild::Activated { release, build: id },
            Err(error) => failed(Stage::Limit, format!("{error:#}")),
        }
    }

    /// Ends what the old build still does when its drain deadline passes, unless it answered again since: then what it
    /// does may have begun a moment ago.
    fn expire_after_drain(&self, old: Arc<LoadedBuild>) {
        let role = Arc::clone(&self.role);
        let (context, timeout) = (
            Arc::clone(&self.context),
            Duration::from_millis(self.config.drain_timeout_ms),
        );
        let (switch, id, deadline) = (old.switched_away(), old.id, old.deadline_token());
        let old = Arc::downgrade(&old);
        self.context.background.spawn(async move {
            tokio::time::sleep(timeout).await;
            let now = context.builds.now();
            if now.active.as_ref().is_some_and(|now| now.id == id) {
                return;
            }
            match old.upgrade() {
                Some(old) if old.was_last(switch) => {
                    old.expire();
                    role.build_expired(&old);
                }
                Some(_) => {}
                // Its requests do not keep it loaded.
                None => deadline.cancel(),
            }
        });
    }

    /// Closes the files of native code that no held build uses: loaded code is mapped, and needs no file.
    pub(super) fn forget_native(&mut self) {
        let held = self.context.builds.now();
        let used: HashSet<Digest> = held
            .all()
            .flat_map(|build| {
                build
                    .manifest
                    .handlers
                    .values()
                    .map(|handler| handler.component)
            })
            .collect();
        self.native.retain(|component, _| used.contains(component));
    }
}
