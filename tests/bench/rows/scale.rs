//! Rows of size: many handlers and routes, many idle connections.

use super::measure;
use crate::{
    load::Load,
    process::{Server, private_bytes},
    report::{Row, Target},
};
use anyhow::{Context, ensure};
use protoplex_tests::{Connection, repository};
use std::{fmt::Write, fs, path::Path, time::Duration};
use tokio::task::JoinSet;

const HANDLERS: usize = 1_000;
const ROUTES: usize = 10_000;
const IDLE_CONNECTIONS: usize = 15_000;
/// Opened at once, below the listening sockets' backlog.
const OPENING: usize = 256;
/// A node that has just started has work of its own.
const SETTLING: Duration = Duration::from_secs(10);
/// Long enough that a clock tick is a tenth of the target.
const IDLE: Duration = Duration::from_secs(60);

/// A proxy whose routes go to the handlers in turns, each for a path of its own.
fn proxy(folder: &Path, handlers: usize, routes: usize) -> anyhow::Result<Server> {
    let component = repository().join("builds/out/hello.wasm");
    let mut manifest = String::from("name = \"many\"\n");
    for handler in 0..handlers {
        write!(
            manifest,
            "[handlers.h{handler}]\ncomponent = \"{}\"\nisolation = \"shared\"\n",
            component.display()
        )?;
    }
    for route in 0..routes {
        let path = match routes {
            1 => "/*".to_owned(),
            _ => format!("/r{route}/*"),
        };
        let handler = route % handlers;
        write!(
            manifest,
            "[[routes]]\nrole = \"proxy\"\npath = \"{path}\"\nhandler = \"h{handler}\"\n"
        )?;
    }
    let file = folder.join(format!("many-{handlers}.toml"));
    fs::write(&file, manifest)?;
    Server::proxy(&file)
}

/// Rows of the same requests, over all of many routes and handlers, and over one of each.
pub fn routes(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let many = proxy(folder, HANDLERS, ROUTES)?;
    let one = proxy(folder, 1, 1)?;
    // Made before the clock starts. A step that shares no factor with their number visits all, and no two neighbours.
    let script = format!(
        "local all, n = {{}}, 0\n\
         init = function() for i = 0, {ROUTES} - 1 do all[i] = wrk.format('GET', '/r' .. i .. '/x') end end\n\
         request = function() n = (n + 7919) % {ROUTES}; return all[n] end\n"
    );
    let load = Load::get("/").script("routes.lua", &script, folder)?;
    let [ours, peer] = measure([(&many, &load), (&one, &load)])?;
    Ok(vec![Row {
        name: "1,000 handlers and 10,000 routes, CPU".into(),
        unit: "CPU us/request",
        ours: ours.cpu_us_per_request,
        peer: Some(peer.cpu_us_per_request),
        peer_name: "one of each",
        kernel: None,
        target: Target::AtMost(1.1),
    }])
}

/// Cost of a connection that was used once and is kept.
pub fn idle(_folder: &Path) -> anyhow::Result<Vec<Row>> {
    let server = super::ours("edge-shared", "proxy")?;
    Load::get("/").warm(&server)?;
    let fleet = server.fleet().context("it was started as ours")?;
    let children = fleet.children(&fleet.node("proxy"))?;
    let private =
        || -> anyhow::Result<f64> { children.iter().map(|&pid| private_bytes(pid)).sum() };
    let before = private()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let after = runtime.block_on(async {
        let connections = open(&server.address(), IDLE_CONNECTIONS).await?;
        ensure!(connections.len() == IDLE_CONNECTIONS, "some are missing");
        private()
    })?;
    Ok(vec![Row {
        name: "idle connection, private memory, of 15,000".into(),
        unit: "KiB",
        ours: (after - before) / IDLE_CONNECTIONS as f64 / 1024.0,
        peer: None,
        peer_name: "-",
        kernel: None,
        target: Target::AtMost(6.0),
    }])
}

/// Cost of a proxy of the sample fleet that nobody visits: its parent and children.
pub fn idle_cpu(_folder: &Path) -> anyhow::Result<Vec<Row>> {
    let server = Server::ours("builds/sample.toml", "proxy")?;
    std::thread::sleep(SETTLING);
    let before = server.cpu_time()?;
    std::thread::sleep(IDLE);
    let used = (server.cpu_time()? - before).seconds();
    Ok(vec![Row {
        name: "a proxy that nobody visits, CPU".into(),
        unit: "% of a core",
        ours: used / IDLE.as_secs_f64() * 100.0,
        peer: None,
        peer_name: "-",
        kernel: None,
        target: Target::AtMost(0.2),
    }])
}

/// Connections that have had one answer each.
async fn open(address: &str, count: usize) -> anyhow::Result<Vec<Connection>> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let mut opening = JoinSet::new();
        for _ in all.len()..count.min(all.len() + OPENING) {
            let address = address.to_owned();
            opening.spawn(async move {
                let mut connection = Connection::open(&address).await?;
                let answer = connection.get("/").await?;
                ensure!(answer.status == 200, "{}", answer.status);
                Ok(connection)
            });
        }
        while let Some(connection) = opening.join_next().await {
            all.push(connection??);
        }
    }
    Ok(all)
}
