//! Closed-loop load by wrk: as many requests as a server can answer, and what they cost it.

use crate::process::Server;
use anyhow::{Context, ensure};
use std::{fs, path::Path, process::Command};

/// Keep-alive connections.
const CONNECTIONS: &str = "64";
/// Seconds of one measurement.
const SECONDS: &str = "3";
/// Requests before the clock starts fill caches and pools.
const WARM_SECONDS: &str = "1";

/// What one measurement gave.
#[derive(Clone, Copy)]
pub struct Measured {
    pub requests_per_s: f64,
    pub cpu_us_per_request: f64,
}

/// One measurement; `body_bytes` above 0 makes it a POST.
pub fn measure(
    server: &Server,
    path: &str,
    body_bytes: usize,
    folder: &Path,
) -> anyhow::Result<Measured> {
    let mut args = vec!["-t1".to_owned(), format!("-c{CONNECTIONS}")];
    if body_bytes > 0 {
        let script = folder.join("post.lua");
        let text = format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {body_bytes})\n");
        fs::write(&script, text)?;
        args = vec![
            "-t1".into(),
            "-c8".into(),
            "-s".into(),
            script.display().to_string(),
        ];
    }
    let url = format!("http://{}{path}", server.address());
    wrk(&args, WARM_SECONDS, &url)?;
    let before = server.cpu_seconds()?;
    let (requests, seconds) = wrk(&args, SECONDS, &url)?;
    let cpu = server.cpu_seconds()? - before;
    Ok(Measured {
        requests_per_s: requests / seconds,
        cpu_us_per_request: cpu / requests * 1e6,
    })
}

/// Requests and seconds.
fn wrk(args: &[String], seconds: &str, url: &str) -> anyhow::Result<(f64, f64)> {
    let output = Command::new("wrk")
        .args(args)
        .args(["-d", seconds, url])
        .output();
    let output = output.context("wrk is not installed; run ./.ci/setup")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk failed on {url}: {text}");
    ensure!(
        !text.contains("Non-2xx"),
        "{url} answered with errors:\n{text}"
    );
    ensure!(
        !text.contains("Socket errors"),
        "{url} lost connections:\n{text}"
    );
    let line = text.lines().find(|line| line.contains(" requests in "));
    let words: Vec<&str> = line
        .context("wrk says how many")?
        .split_whitespace()
        .collect();
    let time = words[3].trim_end_matches(',');
    let time: f64 = match time.strip_suffix("ms") {
        Some(ms) => ms.parse::<f64>()? / 1e3,
        None => time.trim_end_matches('s').parse()?,
    };
    Ok((words[0].parse()?, time))
}
