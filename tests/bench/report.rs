//! The table for people, `target/bench/latest.json`, and the history.

use crate::{history::Run, peers};
use anyhow::Context;
use protoplex_tests::program;
use serde_json::{Value, json};
use std::fs;

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
    /// The part of both figures that was spent in the kernel, where they are CPU time.
    pub kernel: Option<[f64; 2]>,
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

    /// The row as it is kept.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name, "unit": self.unit, "ours": self.ours, "peer": self.peer,
            "peer_name": self.peer_name, "kernel": self.kernel, "ratio": self.ratio(), "target": self.target_text(), "met": self.met(),
        })
    }
}

/// A line for whoever waits.
#[expect(clippy::print_stderr, reason = "progress goes to stderr")]
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// The rows of a run: each is printed and kept as it comes, so that a run which is stopped has lost none.
pub struct Report {
    run: Run,
    rows: Vec<Value>,
}

impl Report {
    /// Prints whom the program is measured against, and on what.
    #[expect(clippy::print_stdout, reason = "the table is what was asked for")]
    pub fn begin() -> anyhow::Result<Self> {
        for version in peers::versions() {
            println!("{version}");
        }
        let run = Run::now()?;
        println!("{}, Linux {}\n", run.machine, run.kernel);
        println!(
            "{:<46} {:>12} {:>12} {:<22} {:>13} {:>7} {:>9}  met",
            "row", "ours", "peer", "unit", "of it kernel", "ratio", "target"
        );
        let rows = Vec::new();
        Ok(Self { run, rows })
    }

    /// Prints rows, and writes them to the history.
    #[expect(clippy::print_stdout, reason = "the table is what was asked for")]
    pub fn add(&mut self, rows: Vec<Row>) -> anyhow::Result<()> {
        for row in &rows {
            let optional =
                |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
            let kernel = row
                .kernel
                .map(|[ours, peer]| format!("{ours:.1}/{peer:.1}"));
            println!(
                "{:<46} {:>12.2} {:>12} {:<22} {:>13} {:>7} {:>9}  {}",
                row.name,
                row.ours,
                optional(row.peer),
                format!("{} ({})", row.unit, row.peer_name),
                kernel.unwrap_or_default(),
                optional(row.ratio()),
                row.target_text(),
                if row.met() { "yes" } else { "no" }
            );
        }
        self.run.append(&rows)?;
        self.rows.extend(rows.iter().map(Row::json));
        Ok(())
    }

    /// Writes `target/bench/latest.json`.
    pub fn end(self) -> anyhow::Result<()> {
        let Self { run, rows } = self;
        let target = program()?;
        let target = target
            .ancestors()
            .nth(2)
            .context("target/release/protoplex")?;
        let folder = target.join("bench");
        fs::create_dir_all(&folder)?;
        let report = json!({
            "date": run.date,
            "machine": run.machine,
            "kernel": run.kernel,
            "versions": peers::versions(),
            "commit": run.commit,
            "rows": rows,
        });
        fs::write(folder.join("latest.json"), format!("{report:#}\n"))?;
        Ok(())
    }
}
