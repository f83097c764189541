//! `tests/bench/history.jsonl`, which is kept in git: every row that was ever measured, one line each.

use crate::report::Row;
use anyhow::{Context, ensure};
use protoplex_tests::repository;
use serde_json::{Value, json};
use std::{fs, io::Write, path::PathBuf, process::Command};

/// From the root of the repository.
const FILE: &str = "tests/bench/history.jsonl";

/// Circumstances of a run.
pub struct Run {
    /// When it ended, in UTC, `2026-01-31T12:00:00Z`.
    pub date: String,
    /// The commit, with `-dirty` behind it where the tree has changes.
    pub commit: String,
    /// Model of the CPU, and the number of cores.
    pub machine: String,
    /// Release of Linux.
    pub kernel: String,
}

impl Run {
    /// The run that ends now, in this tree and on this machine.
    ///
    /// # Errors
    /// The kernel, git or `date` says nothing.
    pub fn now() -> anyhow::Result<Self> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        Ok(Self {
            date: said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])?,
            commit: commit()?,
            machine: machine(),
            kernel: kernel.trim().to_owned(),
        })
    }

    fn line(&self, row: &Row) -> Value {
        let mut line = row.json();
        line["date"] = json!(self.date);
        line["commit"] = json!(self.commit);
        line["machine"] = json!(self.machine);
        line["kernel"] = json!(self.kernel);
        line
    }

    /// Writes the rows behind those of earlier runs. Returns where.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&self, rows: &[Row]) -> anyhow::Result<PathBuf> {
        let path = repository().join(FILE);
        let lines: String = rows
            .iter()
            .map(|row| format!("{}\n", self.line(row)))
            .collect();
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)?;
        file.write_all(lines.as_bytes())?;
        Ok(path)
    }
}

/// The history itself is no change: a bench writes it.
fn commit() -> anyhow::Result<String> {
    let id = said("git", &["rev-parse", "--short=12", "HEAD"])?;
    let but = format!(":(exclude){FILE}");
    let changes = said("git", &["status", "--porcelain", "--", ".", &but])?;
    let mark = if changes.is_empty() { "" } else { "-dirty" };
    Ok(id + mark)
}

fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cores} cores", model.unwrap_or("unknown"))
}

fn said(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(repository());
    let output = command.output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program} {arguments:?} failed");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
