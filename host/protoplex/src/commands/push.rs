//! `push`: makes a build of a manifest and releases it.

use super::build_by_prefix;
use crate::{
    cli,
    exit::CommandExit,
    inspect, output,
    progress::{EventFormat, ShownRelease},
    target::FoundSeed,
};
use anyhow::{Context as _, Result};
use protoplex_push::{PushError, PushOptions, ReleaseEnd, package, push};
use protoplex_seed_client::SeedClient;
use protoplex_wire::{BuildId, status::ReleaseRecord};
use std::{sync::Arc, time::Duration};

/// Word of `--against none`: no build may be active.
const NONE: &str = "none";

/// Runs `push`: packages, signs, uploads what is missing, releases.
///
/// # Errors
/// Whatever kept the release from beginning.
pub async fn run(args: &cli::PushArgs) -> Result<CommandExit> {
    // First, since a malformed manifest is worth saying whether or not a Seed is there.
    let package = package(&args.file, &args.sets, &inspect::inspect)?;
    let found = FoundSeed::by(&args.following.target)?;
    let key = found.release_key(args.release_key.as_deref())?;
    let client = found.client()?;
    let options = PushOptions {
        made_against: against(&client, args.against.as_deref()).await?,
        timeout: args.following.timeout(),
    };
    let format = EventFormat::of(&args.following);
    let shown = Arc::new(ShownRelease::new(format));
    let end = match push(&client, &package, &key, &options, shown).await {
        // The context would hide a refusal behind a second line.
        Err(error @ (PushError::Refused { .. } | PushError::Conflict { .. })) => {
            return Err(error.into());
        }
        end => end.with_context(|| format!("pushing {}", args.file.display()))?,
    };
    Ok(finish(&end, format, options.timeout))
}

async fn against(client: &SeedClient, named: Option<&str>) -> Result<Option<Option<BuildId>>> {
    Ok(match named {
        None => None,
        Some(NONE) => Some(None),
        Some(prefix) => Some(Some(build_by_prefix(client, prefix).await?)),
    })
}

/// Says how a release ended, and turns that into the exit code, whether or not anybody can read the words.
pub fn finish(end: &ReleaseEnd, format: EventFormat, timeout: Duration) -> CommandExit {
    match end {
        ReleaseEnd::Promoted(record) => {
            let code = reach(record);
            match (code, format) {
                (CommandExit::Done, EventFormat::Text) => {
                    if let Err(error) = output::report(promoted(record)) {
                        output::say(format_args!("{} ({error})", promoted(record)));
                    }
                }
                (CommandExit::Done, _) => {}
                // No success, so it is said whatever the format is.
                _ => output::say(promoted(record)),
            }
            code
        }
        ReleaseEnd::Reverted(record) => {
            let reason = record.reason.as_deref().unwrap_or("no reason was given");
            let build = record.build.short();
            let before = match record.previous {
                Some(build) => format!("build {} runs on as before", build.short()),
                None => "no build runs".to_owned(),
            };
            output::say(format_args!(
                "build {build} was reverted: {reason}\n{before}"
            ));
            CommandExit::Reverted
        }
        ReleaseEnd::StillRunning => {
            output::say(format_args!(
                "the release still runs after {} s; `protoplex releases` tells how it ends",
                timeout.as_secs()
            ));
            CommandExit::TimedOut
        }
    }
}

/// Exit code of a release that was promoted: whether some node of every role that has nodes runs it.
fn reach(record: &ReleaseRecord) -> CommandExit {
    match record.switched() > 0 && record.unreached.is_empty() {
        true => CommandExit::Done,
        false => CommandExit::Unreached,
    }
}

/// Text that says where a release that was promoted runs, and where it does not yet.
fn promoted(record: &ReleaseRecord) -> String {
    let build = format!("build {} ({})", record.build.short(), record.name);
    let (here, ms) = (record.switched(), record.elapsed_ms);
    let all = here + record.away.len();
    let away: Vec<&str> = record.away.iter().map(|away| &*away.node).collect();
    let away = away.join(", ");
    let roles: Vec<String> = record.unreached.iter().map(ToString::to_string).collect();
    match (here, roles.is_empty(), away.is_empty()) {
        (0, _, true) => format!(
            "{build} is the fleet's build, but runs nowhere: no node is here; each gets it when it comes"
        ),
        (0, _, false) => format!(
            "{build} is the fleet's build, but runs nowhere: away are {away}; each gets it when it comes back"
        ),
        (_, false, _) => format!(
            "{build} runs on {here} of {all} nodes, and on none of role {}: away are {away}; each gets it when it comes back",
            roles.join(", ")
        ),
        (_, true, false) => format!(
            "{build} runs on {here} of {all} nodes, after {ms} ms; away are {away}; each gets it when it comes back"
        ),
        (_, true, true) => format!("{build} runs on every node, after {ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_wire::{
        Digest, ReleaseId,
        manifest::Role,
        status::{AnswerKind, AwayNode, NodeAnswer, ReleaseOutcome},
    };

    fn record(here: &[&str], away: &[(&str, Role)], unreached: &[Role]) -> ReleaseRecord {
        let ack = |node: &&str| NodeAnswer {
            node: (*node).to_owned(),
            answer: AnswerKind::Ack,
            elapsed_ms: 1,
        };
        let is_away = |(node, role): &(&str, Role)| AwayNode {
            node: (*node).to_owned(),
            role: *role,
        };
        ReleaseRecord {
            release: ReleaseId::default(),
            build: Digest::of(b"x"),
            name: "x".to_owned(),
            previous: None,
            outcome: ReleaseOutcome::Promoted,
            reason: None,
            started_unix_ms: 0,
            elapsed_ms: 7,
            answers: here.iter().map(ack).collect(),
            away: away.iter().map(is_away).collect(),
            unreached: unreached.to_vec(),
        }
    }

    #[test]
    fn a_release_is_said_to_run_where_it_runs() {
        let app = ("app-1", Role::App);
        for (record, code, text) in [
            (
                record(&["p", "a"], &[], &[]),
                CommandExit::Done,
                "on every node",
            ),
            (
                record(&["p", "a"], &[app], &[]),
                CommandExit::Done,
                "on 2 of 3 nodes, after 7 ms; away are app-1",
            ),
            (
                record(&["p"], &[app], &[Role::App]),
                CommandExit::Unreached,
                "on none of role app: away are app-1",
            ),
            (
                record(&[], &[app], &[Role::App]),
                CommandExit::Unreached,
                "runs nowhere: away are app-1",
            ),
            (
                record(&[], &[], &[]),
                CommandExit::Unreached,
                "no node is here",
            ),
        ] {
            assert_eq!(reach(&record), code, "{text}");
            let said = promoted(&record);
            assert!(said.contains(text), "{said}");
        }
    }
}
