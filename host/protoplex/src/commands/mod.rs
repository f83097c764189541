//! One module a command: arguments in, output and exit code out.

pub mod build;
pub mod dev;
pub mod logs;
pub mod new;
pub mod processes;
pub mod push;
pub mod rollback;
pub mod show;

use anyhow::{Context as _, Result, bail};
use protoplex_seed::SeedClient;
use protoplex_wire::BuildId;
use std::collections::BTreeSet;

/// The build whose id starts with `prefix`, among those of the history.
///
/// # Errors
/// When there is none, or more than one.
pub async fn build_by_prefix(client: &SeedClient, prefix: &str) -> Result<BuildId> {
    if let Ok(build) = prefix.parse() {
        return Ok(build);
    }
    let history = client.releases().await.context("asking for the history")?;
    let known: BTreeSet<BuildId> = history.into_iter().map(|record| record.build).collect();
    let fitting: Vec<BuildId> = known
        .into_iter()
        .filter(|build| build.to_string().starts_with(prefix))
        .collect();
    match fitting.as_slice() {
        [one] => Ok(*one),
        [] => bail!("no build's id starts with `{prefix}`; `protoplex releases` lists them"),
        several => bail!(
            "{} builds' ids start with `{prefix}`; give more digits",
            several.len()
        ),
    }
}
