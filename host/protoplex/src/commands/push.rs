//! `push`: a build of a manifest, released.

use super::build_by_prefix;
use crate::{
    cli,
    exit::Code,
    inspect, output,
    progress::{Format, Shown},
    target::Found,
};
use anyhow::{Context as _, Result};
use protoplex_push::{End, Options, PushError, package, push};
use protoplex_seed::SeedClient;
use protoplex_wire::BuildId;
use std::{sync::Arc, time::Duration};

/// `--against none`: no build may be active.
const NONE: &str = "none";

/// Packages, signs, uploads what is missing, releases.
///
/// # Errors
/// Whatever kept the release from beginning.
pub async fn run(args: &cli::Push) -> Result<Code> {
    // First, since a malformed manifest is worth saying whether or not a Seed is there.
    let package = package(&args.file, &args.sets, &inspect::inspect)?;
    let found = Found::by(&args.target)?;
    let key = found.release_key(args.release_key.as_deref())?;
    let client = found.client()?;
    let options = Options {
        made_against: against(&client, args.against.as_deref()).await?,
        timeout: Duration::from_secs(args.timeout),
    };
    let format = if args.json {
        Format::Json
    } else {
        Format::Text
    };
    let shown = Arc::new(Shown::new(format));
    let end = match push(&client, &package, &key, &options, shown).await {
        // The context would hide a refusal behind a second line.
        Err(error @ (PushError::Refused { .. } | PushError::Conflict { .. })) => {
            return Err(error.into());
        }
        end => end.with_context(|| format!("pushing {}", args.file.display()))?,
    };
    finish(&end, format, options.timeout)
}

async fn against(client: &SeedClient, named: Option<&str>) -> Result<Option<Option<BuildId>>> {
    Ok(match named {
        None => None,
        Some(NONE) => Some(None),
        Some(prefix) => Some(Some(build_by_prefix(client, prefix).await?)),
    })
}

/// Says how a release ended, and turns that into the exit code.
///
/// # Errors
/// When stdout cannot be written.
pub fn finish(end: &End, format: Format, timeout: Duration) -> Result<Code> {
    Ok(match end {
        End::Promoted(record) => {
            if format == Format::Text {
                let build = record.build.short();
                let ms = record.elapsed_ms;
                output::line(format_args!(
                    "build {build} ({}) runs on every node, after {ms} ms",
                    record.name
                ))?;
            }
            Code::Done
        }
        End::Reverted(record) => {
            let reason = record.reason.as_deref().unwrap_or("no reason was given");
            let build = record.build.short();
            let before = match record.previous {
                Some(build) => format!("build {} runs on as before", build.short()),
                None => "no build runs".to_owned(),
            };
            output::say(format_args!(
                "build {build} was reverted: {reason}\n{before}"
            ));
            Code::Reverted
        }
        End::StillRunning => {
            output::say(format_args!(
                "the release still runs after {} s; `protoplex releases` tells how it ends",
                timeout.as_secs()
            ));
            Code::TimedOut
        }
    })
}
