//! Allocations of a request: of a program that counts them (`just bench-allocations`).

use crate::{
    load::Load,
    peers,
    process::Server,
    report::{Row, Target},
    rows,
};
use anyhow::Context;
use std::path::Path;

/// A request that a handler answers, and one that it relays.
pub fn rows(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let back = peers::back()?;
    let respond = Server::ours("tests/bench/builds/edge-shared.toml", "proxy")?;
    let relay = rows::relay::ours(folder, &back)?;
    let row = |name: &str, ours, target| Row {
        name: format!("{name}, allocations"),
        unit: "per request",
        ours,
        peer: None,
        peer_name: "-",
        kernel: None,
        target: Target::AtMost(target),
    };
    Ok(vec![
        row("edge respond", of(&respond, "/")?, 1.0),
        row("relay of 0.1 KiB", of(&relay, "/100")?, 3.0),
    ])
}

/// Allocations for a request, once connections and pools are there.
fn of(server: &Server, path: &str) -> anyhow::Result<f64> {
    let load = Load::get(path);
    load.warm(server)?;
    let before = counted(server)?;
    let requests = load.requests(server)?;
    let all = counted(server)? - before;
    // To one place behind the point: what the children do beside requests is less.
    Ok((all / requests * 10.0).round() / 10.0)
}

fn counted(server: &Server) -> anyhow::Result<f64> {
    let fleet = server.fleet().context("it was started as ours")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let text = runtime.block_on(fleet.meta("proxy", "/metrics"))?;
    let lines = text
        .lines()
        .filter(|line| line.starts_with("protoplex_allocations{"));
    let values: Vec<f64> = lines
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    anyhow::ensure!(
        !values.is_empty(),
        "this program does not count: `just bench-allocations` builds one that does"
    );
    Ok(values.iter().sum())
}
