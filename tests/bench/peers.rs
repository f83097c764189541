//! The peers, at the versions that stand here, tuned as their manuals say.

pub mod envoy;
pub mod haproxy;
pub mod nginx;
pub mod pushpin;

use crate::process::{Server, free_address};
use anyhow::{Context, ensure};
use protoplex_tests::{program, repository};
use std::{path::PathBuf, process::Command};

/// Where Debian keeps daemons.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The version of wasmtime in Cargo.lock.
const WASMTIME: &str = "48.0.8";
/// Settings of `wasmtime serve` for a 0.3 component when nobody says otherwise; ours in builds/app.toml is the same.
const REUSE_03: [&str; 4] = [
    "--max-instance-reuse-count",
    "128",
    "--max-instance-concurrent-reuse-count",
    "16",
];

/// Threads or processes that a peer gets: as many as a proxy has children.
pub fn workers() -> usize {
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .max(2)
}

/// hyper's server alone.
pub fn hyper() -> anyhow::Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(program()?.with_file_name("bench-hyper"));
    command.args([&address, &workers().to_string()]);
    Server::peer(command, &address)
}

/// tokio-tungstenite alone.
pub fn tungstenite() -> anyhow::Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(program()?.with_file_name("bench-tungstenite"));
    command.args([&address, &workers().to_string()]);
    Server::peer(command, &address)
}

/// The server that all relays stand in front of; what it costs is nobody's.
pub fn back() -> anyhow::Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(program()?.with_file_name("bench-back"));
    command.args([&address, &workers().to_string()]);
    Server::peer(command, &address)
}

/// Versions of the peers and load generators, one line each.
pub fn versions() -> Vec<String> {
    let path = format!("{PATH}:{}", repository().join(".venv/bin").display());
    let said = |program: &str, argument: &str| {
        let output = Command::new(program)
            .arg(argument)
            .env("PATH", &path)
            .output()
            .ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| !line.is_empty()).map(str::to_owned)
    };
    let programs = [
        ("nginx", "-v"),
        ("haproxy", "-v"),
        ("envoy", "--version"),
        ("pushpin", "--version"),
        ("wrk", "-v"),
        ("h2load", "--version"),
    ];
    let installed = programs
        .into_iter()
        .filter_map(|(name, flag)| said(name, flag));
    let built = [
        format!("wasmtime {WASMTIME}"),
        "hyper and tokio-tungstenite of Cargo.lock".into(),
    ];
    installed.chain(built).collect()
}

/// `wasmtime serve` with a component of builds/out.
pub fn wasmtime(component: &str) -> anyhow::Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(installed_wasmtime()?);
    command.args(["serve", "--addr", &address]);
    if component == "app" {
        command
            .args(["-Scli,p3,config", "-Wcomponent-model-async"])
            .args(REUSE_03);
    } else {
        command.arg("-Scli");
    }
    command.arg(repository().join(format!("builds/out/{component}.wasm")));
    Server::peer(command, &address)
}

/// wasmtime's command line, compiled once into a cache outside of this repository.
fn installed_wasmtime() -> anyhow::Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(home);
    let bench = cache.context("HOME is not set")?.join("protoplex/bench");
    let root = bench.join(format!("wasmtime-{WASMTIME}"));
    let program = root.join("bin/wasmtime");
    if !program.exists() {
        crate::report::say("compiling the peer `wasmtime serve`, once; this takes some minutes");
        let mut cargo = Command::new("cargo");
        cargo.args([
            "install",
            "wasmtime-cli",
            "--locked",
            "--version",
            WASMTIME,
            "--root",
        ]);
        cargo
            .arg(&root)
            .arg("--target-dir")
            .arg(bench.join("target"));
        ensure!(
            cargo.status()?.success(),
            "wasmtime-cli cannot be installed"
        );
    }
    Ok(program)
}
