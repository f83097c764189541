//! Puts every load of the data path on a build of the program that counts where it runs: the compiler lays the next build
//! out by that (`just profile`).

use crate::{
    before::{RELAY, duels},
    peers,
    process::Server,
    report::say,
    rows::relay,
};
use anyhow::{Context, ensure};
use protoplex_tests::repository;
use std::path::Path;

/// Loads are repeated so often: what a start costs shall weigh little.
const TIMES: usize = 2;

/// Runs all loads on the program at `instrumented`, which writes what it has counted as its processes end.
pub fn run(instrumented: &Path, folder: &Path) -> anyhow::Result<()> {
    ensure!(
        instrumented.is_file(),
        "`--train` takes a `protoplex`; {} is no file",
        instrumented.display()
    );
    let back = peers::back()?;
    let relay = relay::manifest(folder, &repository(), &back)?;
    for duel in duels() {
        say(&format!("training with {}", duel.name));
        let build = match duel.build {
            RELAY => relay.clone(),
            build => repository().join(build),
        };
        let build = build.to_str().context("the folder's name is text")?;
        let server = Server::of(instrumented, build, &duel.part)?;
        for _ in 0..TIMES {
            duel.load.requests(&server)?;
        }
    }
    Ok(())
}
