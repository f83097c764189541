//! The peers, at the versions that stand here, tuned as their manuals say.

use crate::process::{Server, free_address};
use anyhow::{Context, ensure};
use protoplex_tests::{program, repository};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The version of wasmtime in Cargo.lock.
const WASMTIME: &str = "48.0.8";
/// What `wasmtime serve` takes for a 0.3 component when nobody says otherwise; ours in builds/app.toml is the same.
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

/// nginx, static files with sendfile and an open-file cache, no logs.
pub fn nginx(folder: &Path) -> anyhow::Result<Server> {
    let address = free_address()?;
    let root = repository().join("tests/bench/files");
    let config = format!(
        "daemon off; worker_processes {}; pid nginx.pid; error_log /dev/null crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_timeout 75;\n\
         keepalive_requests 1000000000; open_file_cache max=1000; etag on; types {{ text/plain txt; }}\n\
         client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         server {{ listen {address} reuseport; root {}; }} }}\n",
        workers(),
        root.display()
    );
    fs::write(folder.join("nginx.conf"), config)?;
    let mut command = Command::new("nginx");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
        .arg("-p")
        .arg(folder)
        .args(["-c", "nginx.conf", "-e", "/dev/null"]);
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
