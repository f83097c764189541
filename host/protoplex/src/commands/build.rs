//! `build`: what a push would send, without sending it.

use crate::{cli, exit::CommandExit, inspect, output};
use anyhow::Result;
use protoplex_push::package;
use protoplex_wire::manifest::Isolation;

/// Runs `build`: packages and prints.
///
/// # Errors
/// When the manifest is malformed.
pub fn run(args: &cli::BuildArgs) -> Result<CommandExit> {
    let package = package(&args.file, &args.sets, &inspect::inspect)?;
    let manifest = &package.manifest;
    if args.json {
        output::line(String::from_utf8_lossy(&manifest.canonical()))?;
        return Ok(CommandExit::Done);
    }
    output::line(format_args!("build {}  {}", package.id(), manifest.name))?;
    let heading = ["HANDLER", "WORLD", "ISOLATION", "COMPONENT", "SIZE"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(manifest.handlers.iter().map(|(name, handler)| {
        [
            name.clone(),
            handler.world.to_string(),
            isolation(handler.isolation),
            handler.component.short(),
            output::bytes(handler.component_bytes),
        ]
    }));
    output::table(&rows)?;
    let bytes: u64 = manifest.assets.values().map(|asset| asset.bytes).sum();
    output::line(format_args!(
        "{} routes, {} assets of {}, {} settings, {} upstreams",
        manifest.routes.len(),
        manifest.assets.len(),
        output::bytes(bytes),
        manifest.settings.len(),
        manifest.upstreams.len()
    ))?;
    for note in &package.notes {
        output::say(note);
    }
    Ok(CommandExit::Done)
}

fn isolation(isolation: Isolation) -> String {
    match isolation {
        Isolation::PerRequest => "per-request".to_owned(),
        Isolation::Shared { .. } => "shared".to_owned(),
        Isolation::Concurrent { concurrency, .. } => format!("concurrency {concurrency}"),
    }
}
