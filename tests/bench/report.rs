//! The table for people and `target/bench/latest.json`.

use crate::peers;
use anyhow::Context;
use protoplex_tests::{program, repository};
use serde_json::{Value, json};
use std::{fs, process::Command};

/// Demand of a target on a row's figure.
#[derive(Clone, Copy)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// One line of the table.
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub ours: f64,
    /// `None` where the target is an absolute one.
    pub peer: Option<f64>,
    pub peer_name: &'static str,
    pub target: Target,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.peer.map(|peer| self.ours / peer)
    }

    fn met(&self) -> bool {
        let figure = self.ratio().unwrap_or(self.ours);
        match self.target {
            Target::AtMost(limit) => figure <= limit,
            Target::AtLeast(limit) => figure >= limit,
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::AtMost(limit) => format!("<= {limit}"),
            Target::AtLeast(limit) => format!(">= {limit}"),
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "unit": self.unit, "ours": self.ours, "peer": self.peer,
            "peer_name": self.peer_name, "ratio": self.ratio(), "target": self.target_text(), "met": self.met(),
        })
    }
}

/// A line for whoever waits.
#[expect(clippy::print_stderr, reason = "progress goes to stderr")]
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Prints the table and writes the file.
#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
pub fn publish(rows: &[Row]) -> anyhow::Result<()> {
    for version in peers::versions() {
        println!("{version}");
    }
    println!("{}, Linux {}\n", machine(), kernel()?);
    println!(
        "{:<46} {:>12} {:>12} {:<22} {:>7} {:>9}  met",
        "row", "ours", "peer", "unit", "ratio", "target"
    );
    for row in rows {
        let optional = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        println!(
            "{:<46} {:>12.2} {:>12} {:<22} {:>7} {:>9}  {}",
            row.name,
            row.ours,
            optional(row.peer),
            format!("{} ({})", row.unit, row.peer_name),
            optional(row.ratio()),
            row.target_text(),
            if row.met() { "yes" } else { "no" }
        );
    }
    let target = program()?;
    let target = target
        .ancestors()
        .nth(2)
        .context("target/release/protoplex")?;
    let folder = target.join("bench");
    fs::create_dir_all(&folder)?;
    let report = json!({
        "machine": machine(),
        "kernel": kernel()?,
        "versions": peers::versions(),
        "commit": commit(),
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    fs::write(folder.join("latest.json"), format!("{report:#}\n"))?;
    Ok(())
}

fn kernel() -> anyhow::Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(release.trim().to_owned())
}

fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cores} cores", model.unwrap_or("unknown"))
}

fn commit() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(repository())
        .output();
    git.map_or_else(
        |_| "unknown".into(),
        |git| String::from_utf8_lossy(&git.stdout).trim().to_owned(),
    )
}
