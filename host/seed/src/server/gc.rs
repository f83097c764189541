//! Removing what is not kept: after every release, from time to time, when the disk is full, and when an operator says
//! so. One collection at a time.

use super::{SeedContext, blobs::blocking, fault::ApiFault, peer::OperatorPeer};
use crate::store::CollectMode;
use axum::{Json, body::Body, extract::State};
use protoplex_wire::status::{GcOrder, GcReport};
use std::{sync::Arc, time::Duration};

/// Time between two collections that look for what grew old without a release, such as a push that was never finished.
const PERIOD: Duration = Duration::from_secs(3_600);
/// Time for which collections are put off, so that several releases in a row are collected after once.
const PAUSE: Duration = Duration::from_secs(1);
/// Time before the first collection: a Seed that has just started does not know yet what its nodes run, and keeps
/// that.
const FIRST_AFTER: Duration = Duration::from_secs(60);

/// Handler of POST `gc`.
pub(super) async fn gc(
    State(shared): State<Arc<SeedContext>>,
    OperatorPeer(operator): OperatorPeer,
    body: Body,
) -> Result<Json<GcReport>, ApiFault> {
    let order: GcOrder = super::api::json(body).await?;
    let mode = match order.dry_run {
        true => CollectMode::DryRun,
        false => CollectMode::Remove,
    };
    tracing::info!(operator, ?mode, "an operator ordered to remove old builds");
    collect(&shared, mode).await.map(Json)
}

/// Collects until the Seed stops.
pub(super) async fn run(shared: Arc<SeedContext>) {
    let store = Arc::clone(&shared.store);
    if let Err(error) = blocking(move || store.reserve()).await {
        tracing::warn!(
            error = error.message(),
            "the Seed cannot reserve room on its disk, so pushes may fail; free the disk"
        );
    }
    let mut wait = FIRST_AFTER;
    loop {
        let is_time = async {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shared.store.collection_wanted() => tokio::time::sleep(PAUSE).await,
            }
        };
        if shared.shutdown.run_until_cancelled(is_time).await.is_none() {
            return;
        }
        wait = PERIOD;
        if let Err(error) = collect(&shared, CollectMode::Remove).await {
            tracing::warn!(
                error = error.message(),
                "old builds were not removed from the Seed's disk; tried again in an hour"
            );
        }
    }
}

async fn collect(shared: &Arc<SeedContext>, mode: CollectMode) -> Result<GcReport, ApiFault> {
    let _one_at_a_time = shared.collecting.lock().await;
    let needed = shared.seed.needed().await.ok_or_else(ApiFault::stopping)?;
    let (store, rules) = (Arc::clone(&shared.store), shared.retention);
    let report = blocking(move || {
        let report = store.collect(&needed, &rules, mode);
        if let Err(error) = store.reserve() {
            tracing::warn!(%error, "the Seed's disk is full and nothing can be pushed; free it, or lower `retention`");
        }
        report
    });
    let report = report.await?;
    if mode == CollectMode::Remove && (report.blobs > 0 || !report.builds.is_empty()) {
        let (builds, kept) = (report.builds.len(), report.kept.builds);
        tracing::info!(
            builds,
            blobs = report.blobs,
            bytes = report.bytes,
            kept,
            "old builds were removed from the Seed's disk"
        );
    }
    Ok(report)
}
