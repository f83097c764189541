//! A child's life: it carries out its parent's messages, reports, and drains when the parent says so or is gone.

mod ending;
mod orders;
mod report;
mod sockets;
mod start;
mod switch;

use super::role::StartRole;
use ending::{End, leave_signals_to_the_parent};
use protoplex_control::messages::{ChildConfig, FromChild};
use report::beat;
use start::Child;
use std::{pin::pin, sync::Arc};

/// Serves until the parent says `drain`, or is gone; then drains.
pub(super) async fn run(config: ChildConfig, start_role: StartRole) -> anyhow::Result<()> {
    leave_signals_to_the_parent()?;
    let mut child = Child::start(config, start_role)?;
    child.batch_sends();
    let mut beats = pin!(beat(
        Arc::clone(&child.channel),
        Arc::clone(&child.context),
        Arc::clone(&child.server),
    ));
    let end = tokio::select! {
        ended = child.apply_all() => ended?,
        // A beat notices that the parent is gone in the middle of an order, too.
        () = &mut beats => End::Orphaned,
    };
    if end == End::Orphaned {
        tracing::warn!("the parent is gone; draining");
        child.accept_for_siblings().await;
        child.shut();
        let cut = child.finish().await;
        tracing::info!(cut, "a child drained");
        return Ok(());
    }
    let mut finished = pin!(child.finish());
    let orders = async {
        tokio::select! {
            ended = child.apply_while_draining() => ended,
            () = beats => Ok(()),
        }
    };
    let cut = tokio::select! {
        biased;
        cut = &mut finished => cut,
        // A parent that is gone is no reason to leave anybody without an answer.
        _ = orders => {
            child.shut();
            finished.await
        }
    };
    tracing::info!(cut, "a child drained");
    child.send(&FromChild::Drained { cut }).await;
    Ok(())
}
