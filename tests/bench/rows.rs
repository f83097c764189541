//! The rows, in the order of the table.

mod live;
pub mod relay;
mod scale;
mod tls;

use crate::{
    allocations, latency,
    load::{Load, Measured},
    peers,
    process::{Server, private_bytes},
    report::{Report, Row, Target, say},
};
use anyhow::{Context, ensure};
use protoplex_tests::{Fleet, repository};
use std::{fs, path::Path, time::Instant};

const ROUNDS: usize = 5;
const ECHO_BYTES: usize = 1 << 20;

/// Measures a family and gives its rows.
type Measure = fn(&Path) -> anyhow::Result<Vec<Row>>;

/// Every family by the name that the command line takes.
pub const FAMILIES: [(&str, Measure); 25] = [
    ("edge-shared", edge_shared),
    ("edge-per-request", edge_per_request),
    ("app", app),
    ("app02", app02),
    ("echo", echo),
    ("asset", asset),
    ("latency", |_| latency::pushes()),
    ("push", push),
    ("memory", memory),
    ("edge-nginx", edge_nginx),
    ("relay", relay::small),
    ("relay-connections", relay::connections),
    ("relay-bulk", relay::bulk),
    ("relay-latency", latency::relay),
    ("relay-http2", relay::http2),
    ("tls", tls::rows),
    ("routes", scale::routes),
    ("idle", scale::idle),
    ("idle-cpu", scale::idle_cpu),
    ("live-idle", live::idle),
    ("live-broadcast", live::broadcast),
    ("live-fan-out", live::fan_out),
    ("live-swap", live::swap),
    ("live-echo", live::echo),
    ("allocations", allocations::rows),
];

/// Alternating rounds of all, each with its load, and the median of each figure.
fn measure<const N: usize>(all: [(&Server, &Load); N]) -> anyhow::Result<[Measured; N]> {
    Ok(rounds(all)?.map(|rounds| Measured::median(&rounds)))
}

/// Alternating rounds of all, each with its load.
pub fn rounds<const N: usize>(all: [(&Server, &Load); N]) -> anyhow::Result<[Vec<Measured>; N]> {
    for (server, load) in all {
        load.warm(server)?;
    }
    let mut rounds = [const { Vec::new() }; N];
    for round in 0..ROUNDS {
        for turn in 0..N {
            let side = (round + turn) % N;
            let (server, load) = all[side];
            rounds[side].push(load.measure(server)?);
        }
    }
    Ok(rounds)
}

/// Ours and one peer under the same load.
fn duel(ours: &Server, peer: &Server, load: &Load) -> anyhow::Result<[Measured; 2]> {
    measure([(ours, load), (peer, load)])
}

fn rate(name: &str, [ours, peer]: [Measured; 2], peer_name: &'static str, target: f64) -> Row {
    let (ours, peer) = (ours.requests_per_s, Some(peer.requests_per_s));
    let (unit, target) = ("requests/s", Target::AtLeast(target));
    Row {
        name: format!("{name}, requests/s"),
        unit,
        ours,
        peer,
        peer_name,
        kernel: None,
        target,
    }
}

pub fn cpu(name: &str, [ours, peer]: [Measured; 2], peer_name: &'static str, target: f64) -> Row {
    let (unit, target) = ("CPU us/request", Target::AtMost(target));
    Row {
        name: format!("{name}, CPU"),
        unit,
        ours: ours.cpu_us_per_request,
        peer: Some(peer.cpu_us_per_request),
        peer_name,
        kernel: Some([ours, peer].map(|measured| measured.kernel_us_per_request)),
        target,
    }
}

fn ours(build: &str, role: &'static str) -> anyhow::Result<Server> {
    Server::ours(&format!("tests/bench/builds/{build}.toml"), role)
}

fn edge_shared(_folder: &Path) -> anyhow::Result<Vec<Row>> {
    let both = duel(
        &ours("edge-shared", "proxy")?,
        &peers::hyper()?,
        &Load::get("/"),
    )?;
    Ok(vec![cpu("edge respond, shared", both, "hyper", 1.3)])
}

fn edge_nginx(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let both = duel(
        &ours("edge-shared", "proxy")?,
        &peers::nginx::respond(folder, None)?,
        &Load::get("/"),
    )?;
    Ok(vec![cpu("edge respond, shared", both, "nginx", 1.0)])
}

fn edge_per_request(_folder: &Path) -> anyhow::Result<Vec<Row>> {
    let both = duel(
        &ours("edge-per-request", "proxy")?,
        &peers::wasmtime("app02")?,
        &Load::get("/"),
    )?;
    let name = "edge respond, per-request";
    Ok(vec![rate(name, both, "wasmtime serve", 6.0)])
}

fn app(_folder: &Path) -> anyhow::Result<Vec<Row>> {
    let both = duel(
        &ours("app", "app")?,
        &peers::wasmtime("app")?,
        &Load::get("/"),
    )?;
    let name = "app 0.3 hello, 16 at once, 128 in all";
    Ok(vec![
        rate(name, both, "wasmtime serve", 2.0),
        cpu(name, both, "wasmtime serve", 0.5),
    ])
}

fn app02(_folder: &Path) -> anyhow::Result<Vec<Row>> {
    let both = duel(
        &ours("app02", "app")?,
        &peers::wasmtime("app02")?,
        &Load::get("/"),
    )?;
    let name = "app 0.2 hello, per-request";
    Ok(vec![rate(name, both, "wasmtime serve", 4.0)])
}

fn echo(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let both = duel(
        &ours("app", "app")?,
        &peers::wasmtime("app")?,
        &Load::post("/api/echo", ECHO_BYTES, folder)?,
    )?;
    let mut row = rate("", both, "wasmtime serve", 1.2);
    row.unit = "MiB/s";
    row.name = "app 0.3 echo of 1 MiB, 16 at once, bytes/s".into();
    Ok(vec![row])
}

fn asset(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let both = duel(
        &ours("asset", "proxy")?,
        &peers::nginx::files(folder)?,
        &Load::get("/1k.txt"),
    )?;
    Ok(vec![cpu("asset of 1 KiB, shared", both, "nginx", 0.9)])
}

/// A handler that really changed: each round has another component, which is compiled on the way.
fn push(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let fleet = Fleet::start("tests/builds/swap.toml")?;
    let component = fs::read(repository().join("builds/out/hello.wasm"))?;
    let manifest = fs::read_to_string(repository().join("tests/builds/swap.toml"))?;
    let manifest = manifest.replace("../../builds/out/hello.wasm", "changed.wasm");
    let file = folder.join("changed.toml");
    fs::write(&file, manifest)?;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let mut changed = component.clone();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_nanos();
        // A custom section of its own: id 0, its size, the size of its name, its name.
        let name = format!("{now}-{round}");
        changed.extend([0, u8::try_from(name.len() + 1)?, u8::try_from(name.len())?]);
        changed.extend(name.as_bytes());
        fs::write(folder.join("changed.wasm"), changed)?;
        let started = Instant::now();
        let said = fleet.push(file.to_str().context("the folder's name is text")?, &[])?;
        ensure!(said.code == 0, "{said:?}");
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(vec![Row {
        name: "push of one changed edge handler".into(),
        unit: "ms",
        ours: super::median(times),
        peer: None,
        peer_name: "-",
        kernel: None,
        target: Target::AtMost(300.0),
    }])
}

fn memory(_folder: &Path) -> anyhow::Result<Vec<Row>> {
    let fleet = Fleet::start("builds/sample.toml")?;
    let children = fleet.children(&fleet.node("proxy"))?;
    let bytes: anyhow::Result<Vec<f64>> = children.iter().map(|&pid| private_bytes(pid)).collect();
    Ok(vec![Row {
        name: "private memory, idle proxy child, shared".into(),
        unit: "MiB",
        ours: super::median(bytes?) / f64::from(1 << 20),
        peer: None,
        peer_name: "-",
        kernel: None,
        target: Target::AtMost(40.0),
    }])
}

/// All families, or those named.
pub fn run(names: &[String], folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let known = FAMILIES.map(|(name, _)| name);
    for name in names {
        ensure!(
            known.contains(&name.as_str()),
            "there is no row `{name}`; there are {}",
            known.join(", ")
        );
    }
    for (name, measure) in FAMILIES {
        // It takes another program than the others.
        let is_usual = name != "allocations";
        if (names.is_empty() && is_usual) || names.iter().any(|named| named == name) {
            say(&format!("measuring {name}"));
            report.add(measure(folder).with_context(|| name)?)?;
        }
    }
    Ok(())
}
