//! `rollback`: an earlier build runs again. Nodes still hold the last ones compiled, so it is a switch of pointers.

use super::{build_by_prefix, push::finish};
use crate::{
    cli,
    exit::Code,
    progress::{Format, Shown},
    target::Found,
};
use anyhow::Result;
use protoplex_push::{PushError, follow};
use std::time::Duration;

/// Orders it and follows the release.
///
/// # Errors
/// Whatever kept the release from beginning.
pub async fn run(args: &cli::Rollback) -> Result<Code> {
    let client = Found::by(&args.target)?.client()?;
    let build = match &args.build {
        Some(prefix) => Some(build_by_prefix(&client, prefix).await?),
        None => None,
    };
    let format = if args.json {
        Format::Json
    } else {
        Format::Text
    };
    let timeout = Duration::from_secs(args.timeout);
    let events = client.rollback(build).await.map_err(PushError::from)?;
    let end = follow(events, timeout, &Shown::new(format)).await?;
    finish(&end, format, timeout)
}
