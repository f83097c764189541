//! Latency rows: what a push costs those who are served meanwhile, and what a relay adds.

use crate::{
    load::{Load, Measured},
    open_loop::{self, Latency},
    peers,
    process::Server,
    report::{Row, Target},
    rows,
};
use anyhow::{Context, ensure};
use protoplex_tests::Fleet;
use std::{
    path::Path,
    time::{Duration, Instant},
};

const SWAP: &str = "tests/builds/swap.toml";
const ROUNDS: usize = 5;
/// Pushes in a round, one a second.
const PUSHES: u64 = 4;
/// Length of a round through a relay.
const RELAY_SECONDS: u64 = 3;
/// Share of what the server can do.
const SHARE: f64 = 0.4;
const COLORS: [&str; 2] = ["greeting=green", "greeting=blue"];

/// The 99th percentile with one push a second against that without.
pub fn pushes() -> anyhow::Result<Vec<Row>> {
    let server = Server::ours(SWAP, "proxy")?;
    let rate = Load::get("/").measure(&server)?.requests_per_s * SHARE;
    let address = server.address();
    let fleet = server.fleet().context("it was started as ours")?;
    // Both builds are compiled and warm before anything is measured.
    COLORS.iter().try_for_each(|color| push(fleet, color))?;
    let p99 = || {
        let duration = Duration::from_secs(PUSHES);
        open_loop::measure(&address, "/", rate, duration).map(|latency| latency.p99)
    };
    let (mut quiet, mut pushing) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(p99()?);
        let measured = std::thread::scope(|scope| {
            let pushes = scope.spawn(|| push_each_second(fleet));
            let measured = p99();
            let pushed = pushes.join();
            pushed.map_err(|_| anyhow::anyhow!("the pushes panicked"))??;
            measured
        });
        pushing.push(measured?);
    }
    Ok(vec![Row {
        name: "p99 with pushes, edge, shared".into(),
        unit: "ms",
        ours: super::median(pushing),
        peer: Some(super::median(quiet)),
        peer_name: "no pushes",
        kernel: None,
        target: Target::AtMost(1.3),
    }])
}

fn push_each_second(fleet: &Fleet) -> anyhow::Result<()> {
    for color in COLORS.iter().cycle().take(PUSHES as usize) {
        let started = Instant::now();
        push(fleet, color)?;
        std::thread::sleep(Duration::from_secs(1).saturating_sub(started.elapsed()));
    }
    Ok(())
}

fn push(fleet: &Fleet, color: &str) -> anyhow::Result<()> {
    let said = fleet.push(SWAP, &[color])?;
    ensure!(said.code == 0, "{said:?}");
    Ok(())
}

/// Through the relay and through HAProxy, both at the same rate: a share of what the slower one can do.
pub fn relay(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let back = peers::back()?;
    let ours = rows::relay::ours(folder, &back)?;
    let peer = peers::haproxy::relay(folder, &back.address())?;
    let (path, load) = ("/1k", Load::get("/1k"));
    let mut capacity = f64::INFINITY;
    for server in [&ours, &peer] {
        load.warm(server)?;
        capacity = capacity.min(load.measure(server)?.requests_per_s);
    }
    let mut rounds = [Vec::new(), Vec::new()];
    let mut measured = [Vec::new(), Vec::new()];
    let rate = capacity * SHARE;
    for round in 0..ROUNDS {
        for side in [round % 2, 1 - round % 2] {
            let server = [&ours, &peer][side];
            let duration = Duration::from_secs(RELAY_SECONDS);
            let before = server.cpu_time()?;
            let latency = open_loop::measure(&server.address(), path, rate, duration)?;
            let (used, seconds) = (server.cpu_time()? - before, duration.as_secs_f64());
            rounds[side].push(latency);
            measured[side].push(Measured::of(rate * seconds, seconds, used));
        }
    }
    let row = |name: &str, percentile: fn(&Latency) -> f64, target| {
        let [ours, peer] = [0, 1].map(|side| {
            let values = rounds[side].iter().map(percentile);
            super::median(values.collect())
        });
        Row {
            name: format!("relay of 1 KiB at 40% of capacity, {name}"),
            unit: "ms",
            ours,
            peer: Some(peer),
            peer_name: "haproxy",
            kernel: None,
            target: Target::AtMost(target),
        }
    };
    let both = measured.map(|rounds| Measured::median(&rounds));
    Ok(vec![
        row("p50", |latency| latency.p50, 1.0),
        row("p99", |latency| latency.p99, 1.1),
        rows::cpu("relay of 1 KiB at 40% of capacity", both, "haproxy", 1.0),
    ])
}
