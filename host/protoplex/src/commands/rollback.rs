//! `rollback`: runs an earlier build again. Nodes still hold the last ones compiled, so it is a switch of pointers.

use super::{build_by_prefix, push::finish};
use crate::{
    cli,
    exit::CommandExit,
    progress::{EventFormat, ShownRelease},
    target::FoundSeed,
};
use anyhow::Result;
use protoplex_push::{PushError, follow};

/// Runs `rollback`: orders it and follows the release.
///
/// # Errors
/// Whatever kept the release from beginning.
pub async fn run(args: &cli::RollbackArgs) -> Result<CommandExit> {
    let client = FoundSeed::by(&args.following.target)?.client()?;
    let build = match &args.build {
        Some(prefix) => Some(build_by_prefix(&client, prefix).await?),
        None => None,
    };
    let format = EventFormat::of(&args.following);
    let timeout = args.following.timeout();
    let events = client.rollback(build).await.map_err(PushError::from)?;
    let end = follow(events, timeout, &ShownRelease::new(format)).await?;
    Ok(finish(&end, format, timeout))
}
