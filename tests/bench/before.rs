//! The program against an earlier build of itself, on all that the data path does. Both are started several times for
//! a row, since where a process comes to lie in memory makes a difference of some per cent.

use crate::{
    load::{Load, Measured},
    peers,
    process::{Part, Server},
    report::{Report, say},
    rows::{cpu, relay, rounds},
};
use anyhow::{Context, ensure};
use protoplex_tests::{program, repository};
use std::{fs, path::Path};

/// How often both are started for a row.
const STARTS: usize = 3;
/// What a change may add to the CPU time of a request.
const TARGET: f64 = 1.02;

const PROXY: Part = Part {
    role: "proxy",
    nodes: &[],
};
const APP: Part = Part {
    role: "app",
    nodes: &[("app", 1)],
};
const LIVE: Part = Part {
    role: "live",
    nodes: &[("live", 1)],
};

/// A row: its name, the build, the node that is measured, the load.
pub struct Duel {
    pub name: &'static str,
    pub build: &'static str,
    pub part: Part,
    pub load: Load,
}

/// All rows of the data path.
pub fn duels() -> [Duel; 8] {
    let duel = |name, build, part, load| Duel {
        name,
        build,
        part,
        load,
    };
    let (respond, live) = (
        "tests/bench/builds/edge-shared.toml",
        "tests/bench/builds/live.toml",
    );
    [
        duel("respond", respond, PROXY, Load::get("/")),
        duel("tls", respond, PROXY, Load::get_over_tls("/")),
        duel("relay", RELAY, PROXY, Load::get("/100")),
        duel("relay-1k", RELAY, PROXY, Load::get("/1k")),
        duel("relay-http2", RELAY, PROXY, Load::http2("/1k")),
        duel(
            "asset",
            "tests/bench/builds/asset.toml",
            PROXY,
            Load::get("/1k.txt"),
        ),
        duel("app", "tests/bench/builds/app.toml", APP, Load::get("/")),
        duel("live-echo", live, LIVE, Load::echo("/echo")),
    ]
}

/// Stands for the manifest that is written for the back end of this run.
pub const RELAY: &str = "";

/// Measures all rows, or those named, against `earlier`. Its handlers are those of `checkout`, where WIT has changed since.
pub fn run(
    earlier: &Path,
    checkout: Option<&Path>,
    names: &[String],
    folder: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    ensure!(
        earlier.is_file(),
        "`--before` takes the `protoplex` of an earlier commit; {} is no file",
        earlier.display()
    );
    let duels = duels();
    for name in names {
        ensure!(
            duels.iter().any(|duel| duel.name == name),
            "`--before` has no row `{name}`; there are {}",
            duels.each_ref().map(|duel| duel.name).join(", ")
        );
    }
    let back = peers::back()?;
    let now = program()?;
    let here = repository();
    let mut both = Vec::new();
    for (name, program, root) in [
        ("now", &*now, &*here),
        ("earlier", earlier, checkout.unwrap_or(&here)),
    ] {
        let folder = folder.join(name);
        fs::create_dir(&folder)?;
        both.push((program, root, relay::manifest(&folder, root, &back)?));
    }
    for duel in duels {
        if !names.is_empty() && !names.iter().any(|name| name == duel.name) {
            continue;
        }
        say(&format!("measuring {}", duel.name));
        let mut all: [Vec<Measured>; 2] = Default::default();
        for _ in 0..STARTS {
            let mut servers = Vec::new();
            for (program, root, relay) in &both {
                let build = match duel.build {
                    RELAY => relay.clone(),
                    build => root.join(build),
                };
                let build = build.to_str().context("the folder's name is text")?;
                servers.push(Server::of(program, build, &duel.part)?);
            }
            let measured = rounds([(&servers[0], &duel.load), (&servers[1], &duel.load)])?;
            for (all, more) in all.iter_mut().zip(measured) {
                all.extend(more);
            }
        }
        let both = all.map(|rounds| Measured::median(&rounds));
        report.add(vec![cpu(duel.name, both, "before", TARGET)])?;
    }
    Ok(())
}
