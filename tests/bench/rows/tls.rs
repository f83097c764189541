//! Rows of TLS: the same certificate (ECDSA on P-256), TLS 1.3 and X25519 for both.

use super::{cpu, measure, ours, rate};
use crate::{
    load::{Load, Measured},
    peers,
    report::{Row, Target},
};
use std::path::Path;

/// Handshakes with one request each, and small requests on kept connections.
pub fn rows(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let ours = ours("edge-shared", "proxy")?;
    let nginx = peers::nginx::respond(folder, Some(&ours.certificate()?))?;
    let mut rows = Vec::new();
    for (resumed, name) in [
        (false, "TLS full handshakes"),
        (true, "TLS resumed handshakes"),
    ] {
        let load = Load::handshakes(resumed);
        let both = measure([(&ours, &load), (&nginx, &load)])?;
        rows.extend(handshakes(name, both));
    }
    let load = Load::get_over_tls("/");
    let both = measure([(&ours, &load), (&nginx, &load)])?;
    let name = "TLS small requests, kept";
    rows.extend([
        rate(name, both, "nginx", 1.0),
        cpu(name, both, "nginx", 0.95),
    ]);
    Ok(rows)
}

/// By the clock, where the client takes most of the machine, and by the server's CPU.
fn handshakes(name: &str, both: [Measured; 2]) -> [Row; 2] {
    let row = |name: String, unit, figure: fn(Measured) -> f64| {
        let [ours, peer] = both.map(figure);
        Row {
            name,
            unit,
            ours,
            peer: Some(peer),
            peer_name: "nginx",
            kernel: None,
            target: Target::AtLeast(1.0),
        }
    };
    [
        row(format!("{name}/s"), "1/s", |measured| {
            measured.requests_per_s
        }),
        row(format!("{name} per CPU second"), "1/CPU s", |measured| {
            1e6 / measured.cpu_us_per_request
        }),
    ]
}
