//! Commands say and do what scripts and people rely on.

use protoplex_tests::{Fleet, Pushed, said};

mod finding;
mod guests;
mod rollback;
mod shown;
mod up;

const SWAP: &str = "tests/builds/swap.toml";

/// `protoplex ARGS` with these variables, and without `--data`.
fn plain(fleet: &Fleet, args: &[&str], variables: &[(&str, &str)]) -> Pushed {
    let mut command = fleet.command(args).unwrap();
    said(command.envs(variables.iter().copied())).unwrap()
}
