//! First build: a fresh Seed gets the sample build, so that the first start serves something.

use super::plan::UpPlan;
use crate::{
    inspect, output,
    progress::{EventFormat, ShownRelease},
    target::FoundSeed,
};
use anyhow::{Context as _, Result, bail};
use protoplex_push::{PushOptions, ReleaseEnd, package, push};
use protoplex_seed_client::SeedClient;
use protoplex_wire::status::SeedStatus;
use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// Manifest that a bare `up` serves.
const SAMPLE: &str = "builds/sample.toml";
/// Longest wait for the nodes' links, which come up in milliseconds once the Seed is there; those that are late catch
/// up by themselves.
const LINK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the Seed: a busy machine takes its time to start one. A Seed that ends instead is told of at once,
/// by who watches it.
const SEED_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// Longest wait for the first release, which compiles everything.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(120);

/// Pushes the build file if no build is active. `named` is the one of the command line; `began` is set before
/// anything is sent, and should not be cancelled from then on.
///
/// # Errors
/// When there is no file, it is malformed, or the nodes refuse it.
pub async fn ensure(plan: &UpPlan, named: Option<&Path>, began: &Cell<bool>) -> Result<()> {
    let found = FoundSeed::from(plan.running.clone());
    let client = found.client()?;
    let status = linked(&client, plan.nodes.len()).await?;
    if let Some(hold) = status.hold {
        // The nodes run something: a build that nobody asked for now is not put over it.
        output::say(format_args!("the Seed holds: {hold}"));
        return Ok(());
    }
    if status.active.is_some() {
        return Ok(());
    }
    began.set(true);
    let file = build_file(named)?;
    let package = package(&file, &[], &inspect::inspect)?;
    let key = found.release_key(None)?;
    let options = PushOptions {
        made_against: Some(None),
        timeout: RELEASE_TIMEOUT,
    };
    let shown = Arc::new(ShownRelease::new(EventFormat::Quiet));
    let end = push(&client, &package, &key, &options, shown).await?;
    match end {
        ReleaseEnd::Promoted(_) => Ok(()),
        ReleaseEnd::Reverted(record) => bail!(
            "the nodes refused {}: {}",
            file.display(),
            record.reason.as_deref().unwrap_or("no reason was given")
        ),
        ReleaseEnd::StillRunning => bail!(
            "the nodes have not answered for {} s; look into {}",
            RELEASE_TIMEOUT.as_secs(),
            plan.data.join("logs").display()
        ),
    }
}

/// Waits for the Seed's status, once it answers and (if it has no build) the nodes are there.
async fn linked(client: &SeedClient, nodes: usize) -> Result<SeedStatus> {
    let start = Instant::now();
    let mut answered = None;
    loop {
        match client.status().await {
            Ok(status)
                if status.active.is_some()
                    || status.nodes_connected as usize >= nodes
                    || answered.get_or_insert_with(Instant::now).elapsed() > LINK_TIMEOUT =>
            {
                return Ok(status);
            }
            Err(error) if start.elapsed() > SEED_TIMEOUT => {
                return Err(error).context("the Seed does not answer");
            }
            Ok(_) | Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

fn build_file(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    // Beside the sources that this program was built from: target/debug/protoplex.
    let program = std::env::current_exe().context("finding this program")?;
    let beside = program.ancestors().nth(3).map(|root| root.join(SAMPLE));
    let candidates = [Some(PathBuf::from(SAMPLE)), beside];
    let found = candidates.into_iter().flatten().find(|file| file.exists());
    found.with_context(|| {
        format!("there is no build yet, and no {SAMPLE} here; name a manifest with --build FILE")
    })
}
