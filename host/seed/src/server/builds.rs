//! Checks before a build may be released: manifest, signature, blobs, limits, components, in this order.

use super::{DynCheck, blobs::blocking, fault::ApiFault};
use crate::{core::CheckedBuild, store::SeedStore};
use ed25519_dalek::VerifyingKey;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use http::StatusCode;
use parking_lot::Mutex;
use protoplex_wire::{
    BuildId, Digest, Manifest,
    manifest::{Handler, MANIFEST_BYTES_MAX},
    signature::Envelope,
    status::{ApiCode, BuildAccepted, BuildView},
};
use std::{collections::HashSet, sync::Arc, time::Instant};

/// Components that are checked at once: compiling must leave room for the nodes of the same machine.
const CHECKS_AT_ONCE: usize = 2;
/// Bytes of memory that one handler may fill in one child, all requests at once: more is a slip of the pen.
const HANDLER_MEMORY_BYTES_MAX: u64 = 64 << 30;
/// Most bytes of all assets, which live in the memory of every node.
const ASSETS_BYTES_MAX: u64 = 1 << 30;
/// Names in the message about missing blobs; the rest is counted.
const MISSING_NAMED_MAX: usize = 5;
/// Most checks that are remembered; beyond, all are forgotten and done again.
const CHECKED_MAX: usize = 10_000;

/// Checks and keeps builds.
pub(super) struct AcceptedBuilds {
    store: Arc<SeedStore>,
    keys: Vec<VerifyingKey>,
    check: Arc<dyn DynCheck>,
    /// Handlers that passed since the start, by the digest of all that is said of them: an unchanged one is not
    /// compiled again.
    checked: Mutex<HashSet<Digest>>,
}

impl AcceptedBuilds {
    pub(super) fn new(
        store: Arc<SeedStore>,
        keys: Vec<VerifyingKey>,
        check: Arc<dyn DynCheck>,
    ) -> Self {
        Self {
            store,
            keys,
            check,
            checked: Mutex::default(),
        }
    }

    /// Checks a build whose manifest and blobs were uploaded, and accepts it.
    pub(super) async fn submit(&self, envelope: Envelope) -> Result<BuildAccepted, ApiFault> {
        let start = Instant::now();
        let manifest = self.manifest(&envelope).await?;
        check_limits(&manifest)?;
        self.check_blobs(&manifest).await?;
        // Boxed, because the compiler cannot tell that a stream of futures that borrow is sent.
        let checks: Vec<_> = manifest
            .handlers
            .iter()
            .map(|(name, handler)| self.check_handler(name, handler).boxed())
            .collect();
        stream::iter(checks)
            .buffer_unordered(CHECKS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        let (store, build) = (Arc::clone(&self.store), envelope.build);
        let digests: Vec<Digest> = manifest.blobs().into_keys().chain([build]).collect();
        blocking(move || store.accept(&envelope, digests.into_iter())).await?;
        tracing::info!(%build, name = manifest.name, "a build was checked and accepted");
        Ok(BuildAccepted {
            build,
            name: manifest.name,
            elapsed_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Loads an accepted build that the keys of today still vouch for.
    pub(super) async fn releasable(&self, build: BuildId) -> Result<CheckedBuild, ApiFault> {
        let BuildView { envelope, manifest } = self.view(build).await?;
        Ok(CheckedBuild {
            id: build,
            name: manifest.name,
            envelope,
        })
    }

    /// Loads an accepted build, with its manifest.
    pub(super) async fn view(&self, build: BuildId) -> Result<BuildView, ApiFault> {
        let store = Arc::clone(&self.store);
        let envelope = blocking(move || store.load_build(build)).await?;
        let envelope = envelope.ok_or_else(|| {
            ApiFault::not_found(
                ApiCode::Build,
                format!("there is no build {build} here; push it first"),
            )
        })?;
        let manifest = self.manifest(&envelope).await?;
        Ok(BuildView { envelope, manifest })
    }

    async fn manifest(&self, envelope: &Envelope) -> Result<Manifest, ApiFault> {
        let (store, build) = (Arc::clone(&self.store), envelope.build);
        let present = blocking(move || {
            let blobs = store.blobs();
            let size = blobs.size(build)?;
            size.map(|_| blobs.read(build, MANIFEST_BYTES_MAX as u64))
                .transpose()
        });
        let Some(bytes) = present.await? else {
            let message = format!("the manifest {build} is not here; upload it as a blob first");
            return Err(ApiFault::new(
                StatusCode::CONFLICT,
                ApiCode::MissingBlobs,
                message,
            ));
        };
        let manifest = Manifest::parse(&bytes)
            .map_err(|error| ApiFault::build(ApiCode::Manifest, error.to_string()))?;
        let verified = envelope.verify(build, &self.keys);
        verified.map_err(|error| {
            ApiFault::new(StatusCode::FORBIDDEN, ApiCode::Signature, error.to_string())
        })?;
        Ok(manifest)
    }

    async fn check_blobs(&self, manifest: &Manifest) -> Result<(), ApiFault> {
        let (store, wanted) = (Arc::clone(&self.store), manifest.blobs());
        let found = blocking(move || {
            let size =
                |(digest, bytes)| store.blobs().size(digest).map(|size| (digest, bytes, size));
            wanted.into_iter().map(size).collect::<Result<Vec<_>, _>>()
        });
        let mut missing = Vec::new();
        for (digest, expected, found) in found.await? {
            match found {
                None => missing.push(digest.to_string()),
                Some(found) if found != expected => {
                    let message = format!(
                        "blob {digest} has {found} bytes, and the manifest says {expected}"
                    );
                    return Err(ApiFault::build(ApiCode::Manifest, message));
                }
                Some(_) => {}
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let more = missing.len().saturating_sub(MISSING_NAMED_MAX);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        missing.truncate(MISSING_NAMED_MAX);
        let message = format!("not uploaded yet, or damaged: {}{more}", missing.join(", "));
        Err(ApiFault::new(
            StatusCode::CONFLICT,
            ApiCode::MissingBlobs,
            message,
        ))
    }

    async fn check_handler(&self, name: &str, handler: &Handler) -> Result<(), ApiFault> {
        let said = serde_json::to_vec(handler).expect("a handler has string keys");
        let said = Digest::of(&said);
        if self.checked.lock().contains(&said) {
            return Ok(());
        }
        let wasm = self.store.blobs().path(handler.component);
        match self.check.check(name, handler, &wasm).await {
            Ok(()) => {
                let mut checked = self.checked.lock();
                if checked.len() >= CHECKED_MAX {
                    checked.clear();
                }
                checked.insert(said);
                Ok(())
            }
            Err((stage, reason)) => Err(ApiFault::build(
                stage.into(),
                format!("handler `{name}`: {reason}"),
            )),
        }
    }
}

/// Checks sums that each part alone does not show.
fn check_limits(manifest: &Manifest) -> Result<(), ApiFault> {
    for (name, handler) in &manifest.handlers {
        let at_once = if handler.world.is_edge() {
            1
        } else {
            handler.limits.in_flight_max
        };
        let bytes = handler
            .limits
            .memory_bytes_max
            .saturating_mul(at_once.into());
        if bytes > HANDLER_MEMORY_BYTES_MAX {
            return Err(ApiFault::build(
                ApiCode::Limit,
                format!(
                    "handler `{name}`: memory_bytes_max times in_flight_max is {bytes} bytes; {HANDLER_MEMORY_BYTES_MAX} is the most. Lower one of them"
                ),
            ));
        }
    }
    let coded = |a: &protoplex_wire::manifest::Asset| a.gzip.as_ref().map_or(0, |gzip| gzip.bytes);
    let sizes = manifest
        .assets
        .values()
        .map(|asset| asset.bytes.saturating_add(coded(asset)));
    let bytes = sizes.fold(0_u64, u64::saturating_add);
    if bytes > ASSETS_BYTES_MAX {
        let message =
            format!("the assets have {bytes} bytes together; {ASSETS_BYTES_MAX} is the most");
        return Err(ApiFault::build(ApiCode::Limit, message));
    }
    Ok(())
}
