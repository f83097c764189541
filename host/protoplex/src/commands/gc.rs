//! `gc`: removes what the Seed does not have to keep.

use crate::{cli, exit::CommandExit, output, target::FoundSeed};
use anyhow::Result;
use protoplex_wire::status::{GcOrder, GcReport};

/// Runs `gc`: has the Seed remove what it does not have to keep, or say what that is.
///
/// # Errors
/// When the Seed does not answer, or its disk refuses.
pub async fn run(args: &cli::GcArgs) -> Result<CommandExit> {
    let order = GcOrder {
        dry_run: args.dry_run,
    };
    let client = FoundSeed::by(&args.target)?.client()?;
    // Removing may take minutes. A Seed that hangs is told from one at work by a question that takes none.
    client.status().await?;
    let report = client.gc(order).await?;
    if args.json {
        output::json(&report)?;
        return Ok(CommandExit::Done);
    }
    for build in &report.builds {
        output::line(format_args!("build {}", build.short()))?;
    }
    output::line(sentence(&report, order))?;
    Ok(CommandExit::Done)
}

fn sentence(report: &GcReport, order: GcOrder) -> String {
    let verb = match order.dry_run {
        true => "would be removed",
        false => "removed",
    };
    format!(
        "{} builds, {} blobs, {} {verb}; {} builds, {} stay",
        report.builds.len(),
        report.blobs,
        output::bytes(report.bytes),
        report.kept.builds,
        output::bytes(report.kept.bytes)
    )
}
