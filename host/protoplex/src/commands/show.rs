//! `releases`, `nodes`, `status`: what the Seed knows, as JSON or as text.

use crate::{cli, exit::CommandExit, output, target::FoundSeed};
use anyhow::Result;
use protoplex_wire::{
    BuildId,
    status::{NodeStatus, ReleaseOutcome, ReleaseRecord, SeedStatus},
};

/// Runs `releases`: lists them, newest first.
///
/// # Errors
/// When the Seed does not answer.
pub async fn releases(args: &cli::ShowArgs) -> Result<CommandExit> {
    let releases = FoundSeed::by(&args.target)?.client()?.releases().await?;
    if args.json {
        output::json(&releases)?;
        return Ok(CommandExit::Done);
    }
    let heading = [
        "RELEASE", "BUILD", "NAME", "OUTCOME", "TOOK", "WHEN", "REASON",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(releases.iter().map(release_row));
    output::table(&rows)?;
    Ok(CommandExit::Done)
}

fn release_row(record: &ReleaseRecord) -> [String; 7] {
    [
        record.release.to_string(),
        record.build.short(),
        record.name.clone(),
        outcome(record.outcome).to_owned(),
        format!("{} ms", record.elapsed_ms),
        output::ago(record.started_unix_ms),
        first_line(record.reason.as_deref().unwrap_or_default()),
    ]
}

/// Returns the first line of a text. A trap's reason has a backtrace below it, which would tear the table apart;
/// `--json` has all of it.
fn first_line(text: &str) -> String {
    match text.split_once('\n') {
        Some((first, _)) => format!("{first} …"),
        None => text.to_owned(),
    }
}

fn outcome(outcome: ReleaseOutcome) -> &'static str {
    match outcome {
        ReleaseOutcome::Running => "running",
        ReleaseOutcome::Promoted => "promoted",
        ReleaseOutcome::Reverted => "reverted",
    }
}

/// Runs `nodes`: lists them.
///
/// # Errors
/// When the Seed does not answer.
pub async fn nodes(args: &cli::ShowArgs) -> Result<CommandExit> {
    let nodes = FoundSeed::by(&args.target)?.client()?.nodes().await?;
    if args.json {
        output::json(&nodes)?;
    } else {
        node_table(&nodes)?;
    }
    Ok(CommandExit::Done)
}

fn node_table(nodes: &[NodeStatus]) -> Result<()> {
    let heading = [
        "NODE", "ROLE", "REGION", "STATE", "BUILD", "CHILDREN", "REQUESTS", "5XX", "TRAPS", "HTTP",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(nodes.iter().map(|node| {
        [
            node.node.clone(),
            node.role.to_string(),
            match node.region.as_str() {
                "" => "-".to_owned(),
                region => region.to_owned(),
            },
            match (node.connected, node.leaving) {
                (true, false) => "connected",
                (true, true) => "leaving",
                (false, _) => "gone",
            }
            .to_owned(),
            short(node.active),
            format!("{}/{}", node.children_ready, node.children),
            node.requests.to_string(),
            node.errors.to_string(),
            node.traps.to_string(),
            node.addresses.http.clone(),
        ]
    }));
    output::table(&rows)?;
    for node in nodes.iter().filter(|node| !node.fault.is_empty()) {
        let (name, fault) = (&node.node, first_line(&node.fault));
        output::line(format_args!(
            "{name}: a child does not serve; the last one ended with {fault}"
        ))?;
    }
    Ok(())
}

fn short(build: Option<BuildId>) -> String {
    build.map_or_else(|| "-".to_owned(), |build| build.short())
}

/// Runs `status`: one sentence first.
///
/// # Errors
/// When the Seed does not answer.
pub async fn status(args: &cli::ShowArgs) -> Result<CommandExit> {
    let found = FoundSeed::by(&args.target)?;
    let client = found.client()?;
    let status = client.status().await?;
    if args.json {
        output::json(&status)?;
        return Ok(CommandExit::Done);
    }
    let nodes = client.nodes().await?;
    output::line(sentence(&status, &nodes))?;
    output::line(format_args!(
        "Seed {} (protoplex {}), release {}",
        found.seed, status.host_version, status.release
    ))?;
    if !nodes.is_empty() {
        output::line("")?;
        node_table(&nodes)?;
    }
    Ok(CommandExit::Done)
}

fn sentence(status: &SeedStatus, nodes: &[NodeStatus]) -> String {
    if let Some(running) = status.running {
        return format!("Release {running} is under way.");
    }
    if let Some(hold) = &status.hold {
        return format!("The Seed holds: {hold}.");
    }
    let Some(active) = status.active else {
        return "There is no build yet; make one with `protoplex push builds/sample.toml`."
            .to_owned();
    };
    let serving = nodes
        .iter()
        .filter(|node| node.connected && node.active == Some(active) && node.children_ready > 0)
        .count();
    let build = active.short();
    match (serving, nodes.len()) {
        (_, 0) => format!("Build {build} is active, and no node has linked up yet."),
        (serving, all) if serving == all => {
            format!("All is well: build {build} runs on all {all} nodes.")
        }
        (serving, all) => {
            format!("Build {build} runs on {serving} of {all} nodes; look at the others.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::node_running;
    use protoplex_wire::{Digest, ReleaseId};

    fn node(connected: bool, active: Option<BuildId>) -> NodeStatus {
        NodeStatus {
            connected,
            ..node_running("app-1", active)
        }
    }

    #[test]
    fn a_reason_of_many_lines_takes_one_in_the_table() {
        assert_eq!(first_line("a trap\n  0: there\n  1: here"), "a trap …");
        assert_eq!(first_line("one line"), "one line");
    }

    #[test]
    fn the_sentence_counts_only_nodes_that_serve_the_active_build() {
        let build = Digest::of(b"x");
        let mut status = SeedStatus {
            host_version: String::new(),
            active: Some(build),
            release: ReleaseId::default(),
            running: None,
            nodes_connected: 2,
            hold: None,
        };
        let good = node(true, Some(build));
        let all = sentence(&status, &[good.clone(), good.clone()]);
        assert!(all.ends_with("runs on all 2 nodes."), "{all}");
        let some = sentence(
            &status,
            &[good.clone(), node(false, Some(build)), node(true, None)],
        );
        assert!(some.contains("1 of 3 nodes"), "{some}");
        status.active = None;
        assert!(sentence(&status, &[good]).starts_with("There is no build yet"));
    }
}
