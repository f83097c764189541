//! Open-loop latency: requests leave on a fixed schedule, and what counts is the time since a request was due.

use crate::{
    load,
    process::Server,
    report::{Row, Target},
};
use anyhow::{Context, ensure};
use protoplex_tests::{Connection, Fleet};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const SWAP: &str = "tests/builds/swap.toml";
const ROUNDS: usize = 5;
const CONNECTIONS: usize = 32;
const SECONDS: u64 = 4;
/// One a second.
const PUSHES: usize = 4;
/// Of what the server can do.
const SHARE: f64 = 0.4;
const COLORS: [&str; 2] = ["greeting=green", "greeting=blue"];

/// The 99th percentile with one push a second against that without.
pub fn row(folder: &Path) -> anyhow::Result<Row> {
    let server = Server::ours(SWAP, "proxy")?;
    let capacity = load::measure(&server, "/", 0, folder)?.requests_per_s;
    let address = server.address();
    let fleet = server.fleet().context("it was started as ours")?;
    // Both builds are compiled and warm before anything is measured.
    COLORS.iter().try_for_each(|color| push(fleet, color))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (mut quiet, mut pushing) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(runtime.block_on(p99(&address, capacity * SHARE))?);
        let measured = std::thread::scope(|scope| {
            let pushes = scope.spawn(|| push_each_second(fleet));
            let measured = runtime.block_on(p99(&address, capacity * SHARE));
            let pushed = pushes.join();
            pushed.map_err(|_| anyhow::anyhow!("the pushes panicked"))??;
            measured
        });
        pushing.push(measured?);
    }
    Ok(Row {
        name: "p99 with pushes, edge, shared".into(),
        unit: "ms",
        ours: super::median(pushing),
        peer: Some(super::median(quiet)),
        peer_name: "no pushes",
        target: Target::AtMost(1.3),
    })
}

fn push_each_second(fleet: &Fleet) -> anyhow::Result<()> {
    for color in COLORS.iter().cycle().take(PUSHES) {
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

/// Milliseconds.
async fn p99(address: &str, rate: f64) -> anyhow::Result<f64> {
    let interval = Duration::from_secs_f64(CONNECTIONS as f64 / rate);
    let start = Instant::now() + Duration::from_millis(50);
    let end = start + Duration::from_secs(SECONDS);
    let mut tasks = JoinSet::new();
    for index in 0..CONNECTIONS {
        let address = address.to_owned();
        let offset = interval.mul_f64(index as f64 / CONNECTIONS as f64);
        tasks.spawn(async move {
            let mut connection = Connection::open(&address).await?;
            let mut latencies = Vec::new();
            let mut due = start + offset;
            while due < end {
                tokio::time::sleep_until(due.into()).await;
                let answer = connection.get("/").await?;
                ensure!(answer.status == 200, "{}", answer.status);
                latencies.push(due.elapsed());
                due += interval;
            }
            Ok(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(latencies) = tasks.join_next().await {
        all.extend(latencies??);
    }
    all.sort_unstable();
    let p99 = all
        .get(all.len() * 99 / 100)
        .context("there were requests")?;
    Ok(p99.as_secs_f64() * 1e3)
}
