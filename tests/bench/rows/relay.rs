//! Rows of relaying: ours and the usual proxies, each in front of the same back end.

use super::{cpu, measure, rate};
use crate::{
    load::{Load, Measured},
    peers,
    process::Server,
    report::{Row, Target},
};
use anyhow::Context;
use protoplex_tests::repository;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Of a `/10m`.
const BULK_MIB: f64 = 10.0;

/// A proxy whose handler sends everything to the back end.
pub fn ours(folder: &Path, back: &Server) -> anyhow::Result<Server> {
    Server::proxy(&manifest(folder, &repository(), back)?)
}

/// Writes the manifest of a build whose handler, of this checkout, sends everything to the back end.
pub fn manifest(folder: &Path, checkout: &Path, back: &Server) -> anyhow::Result<PathBuf> {
    let file = folder.join("relay.toml");
    let component = checkout.join("builds/out/relay.wasm");
    let manifest = format!(
        "name = \"relay\"\n\
         [handlers.measured]\ncomponent = \"{}\"\nisolation = \"shared\"\n\
         [handlers.measured.grants]\nrelay = [\"origin\"]\n\
         [upstreams.origin]\naddresses = [\"{}\"]\n\
         [[routes]]\nrole = \"proxy\"\npath = \"/*\"\nhandler = \"measured\"\n",
        component.display(),
        back.address()
    );
    fs::write(&file, manifest)?;
    Ok(file)
}

/// Small answers against the best of nginx, HAProxy and Envoy.
pub fn small(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let back = peers::back()?;
    let ours = ours(folder, &back)?;
    let nginx = peers::nginx::relay(folder, &back.address(), None)?;
    let haproxy = peers::haproxy::relay(folder, &back.address())?;
    let envoy = peers::envoy::relay(folder, &back.address())?;
    let names = ["nginx", "haproxy", "envoy"];
    let mut rows = Vec::new();
    for (path, size) in [("/100", "0.1 KiB"), ("/1k", "1 KiB")] {
        let load = Load::get(path);
        let servers = [&ours, &nginx, &haproxy, &envoy].map(|server| (server, &load));
        let [ours, peers @ ..] = measure(servers)?;
        let name = format!("relay of {size}, shared");
        let best = |figure: fn(&Measured) -> f64| {
            let all = peers.into_iter().zip(names);
            all.max_by(|(one, _), (other, _)| figure(one).total_cmp(&figure(other)))
                .context("there are peers")
        };
        let (peer, peer_name) = best(|measured| -measured.cpu_us_per_request)?;
        rows.push(cpu(&name, [ours, peer], peer_name, 0.85));
        let (peer, peer_name) = best(|measured| measured.requests_per_s)?;
        rows.push(rate(&name, [ours, peer], peer_name, 1.15));
    }
    Ok(rows)
}

/// Small answers on many connections, against nginx.
pub fn connections(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let back = peers::back()?;
    let ours = ours(folder, &back)?;
    let nginx = peers::nginx::relay(folder, &back.address(), None)?;
    let mut rows = Vec::new();
    for connections in [256, 1_000] {
        let load = Load::get("/100").on(connections);
        let both = measure([(&ours, &load), (&nginx, &load)])?;
        let name = format!("relay of 0.1 KiB, {connections} connections");
        rows.extend([
            cpu(&name, both, "nginx", 0.85),
            rate(&name, both, "nginx", 1.15),
        ]);
    }
    Ok(rows)
}

/// 10 MiB bodies against HAProxy with splice.
pub fn bulk(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let back = peers::back()?;
    let ours = ours(folder, &back)?;
    let haproxy = peers::haproxy::bulk(folder, &back.address())?;
    let load = Load::bulk("/10m");
    let per_cpu_second = |measured: Measured| BULK_MIB / (measured.cpu_us_per_request / 1e6);
    let [ours, peer] = measure([(&ours, &load), (&haproxy, &load)])?.map(per_cpu_second);
    Ok(vec![Row {
        name: "relay of 10 MiB, bytes per CPU second".into(),
        unit: "MiB/CPU s",
        ours,
        peer: Some(peer),
        peer_name: "haproxy",
        kernel: None,
        target: Target::AtLeast(1.1),
    }])
}

/// HTTP/2 over TLS in front, HTTP/1.1 behind.
pub fn http2(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let back = peers::back()?;
    let ours = ours(folder, &back)?;
    let nginx = peers::nginx::relay(folder, &back.address(), Some(&ours.certificate()?))?;
    let load = Load::http2("/1k");
    let both = measure([(&ours, &load), (&nginx, &load)])?;
    Ok(vec![cpu(
        "HTTP/2 relay of 1 KiB, shared",
        both,
        "nginx",
        0.9,
    )])
}
