//! `protoplex up` in a temporary folder, on free ports. Everything it starts, it stops.

mod start;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the repository")
        .to_owned()
}

/// The program under test; `just test` builds it.
///
/// # Errors
/// It has not been built.
pub fn program() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let target = path
        .ancestors()
        .skip(1)
        .map(|folder| folder.join("protoplex"));
    let program = target
        .take(2)
        .find(|program| program.is_file())
        .context("target/debug/protoplex is missing; run `just test`, which builds it")?;
    Ok(program)
}

/// A running fleet.
pub struct Fleet {
    up: Child,
    data: Option<TempDir>,
    root: PathBuf,
    registry: PathBuf,
    /// The line that `up --json` printed.
    pub info: Value,
}

/// Where a node is reached.
#[derive(Clone, Debug)]
pub struct Node {
    /// The name in the directory, which its log files bear too.
    pub name: String,
    /// Public port, plain: `127.0.0.1:port`.
    pub http: String,
    /// Public port, TLS: `127.0.0.1:port`.
    pub https: String,
    /// Health port: `127.0.0.1:port`.
    pub health: String,
    /// Meta port, with its scheme: `https://127.0.0.1:port`.
    pub meta: String,
    /// Process id of the parent.
    pub pid: i32,
}

/// The end of a command, such as `push`.
#[derive(Debug)]
pub struct Pushed {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Fleet {
    /// Stops everything.
    ///
    /// # Errors
    /// It did not stop within 60 s.
    pub fn stop(&mut self) -> anyhow::Result<i32> {
        signal(self.pid(), Signal::TERM)?;
        self.stopped()
    }

    /// Waits for the end of `up`, which a signal has asked for.
    ///
    /// # Errors
    /// It did not stop within 60 s.
    pub fn stopped(&mut self) -> anyhow::Result<i32> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.up.try_wait()? {
                return Ok(status.code().unwrap_or(-1));
            }
            ensure!(Instant::now() < deadline, "`up` did not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The folder of the fleet's data.
    pub fn data(&self) -> &Path {
        &self.root
    }

    /// The first node of a role.
    ///
    /// # Panics
    /// When there is none.
    pub fn node(&self, role: &str) -> Node {
        self.nodes(role).into_iter().next().expect("the role runs")
    }

    /// All nodes of a role.
    ///
    /// # Panics
    /// `up` said something else.
    pub fn nodes(&self, role: &str) -> Vec<Node> {
        let nodes = self.info["nodes"].as_array().expect("`nodes` is a list");
        let of_role = nodes.iter().filter(|node| node["role"] == role);
        of_role
            .map(|node| node_of(node).expect("it has a process"))
            .collect()
    }

    /// Children of a node, by process id.
    ///
    /// # Errors
    /// The process is gone.
    pub fn children(&self, node: &Node) -> anyhow::Result<Vec<i32>> {
        children(node.pid)
    }

    /// Bytes that belong to the processes of a role's first node alone: its parent and children.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn private_bytes(&self, role: &str) -> anyhow::Result<u64> {
        let node = self.node(role);
        let mut kib = 0;
        for pid in self.children(&node)?.into_iter().chain([node.pid]) {
            let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let private = rollup.lines().filter(|line| line.starts_with("Private_"));
            let sizes =
                private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            kib += sizes.sum::<u64>();
        }
        Ok(kib << 10)
    }

    /// Process id of `up`.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.up.id()).expect("a process id is below 2^22")
    }

    /// Process id of the Seed.
    ///
    /// # Errors
    /// `up` names none.
    pub fn seed_pid(&self) -> anyhow::Result<i32> {
        Ok(i32::try_from(
            self.info["seed_pid"]
                .as_i64()
                .context("`seed_pid` is a number")?,
        )?)
    }

    /// Runs `protoplex ARGS --data …`.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<Pushed> {
        said(self.command(args)?.arg("--data").arg(&self.root))
    }

    /// `protoplex ARGS`, to be run where this fleet is the newest.
    ///
    /// # Errors
    /// The program has not been built.
    pub fn command(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(program()?);
        command
            .args(args)
            .env("XDG_RUNTIME_DIR", &self.registry)
            .env_remove("PROTOPLEX_SEED")
            .current_dir(repository())
            .stdin(Stdio::null());
        Ok(command)
    }

    /// `push FILE --set …`.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn push(&self, file: &str, sets: &[&str]) -> anyhow::Result<Pushed> {
        let mut args = vec!["push", file];
        for set in sets {
            args.extend(["--set", set]);
        }
        self.run(&args)
    }

    /// What a process has logged so far.
    pub fn logs_of(&self, name: &str) -> String {
        std::fs::read_to_string(self.root.join("logs").join(format!("{name}.log")))
            .unwrap_or_default()
    }

    /// The last lines of every process's log, for a failed test's message.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(self.root.join("logs"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(40).collect();
            text += &format!("--- {}\n", entry.path().display());
            lines
                .iter()
                .rev()
                .for_each(|line| text += &format!("{line}\n"));
        }
        text
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(
                clippy::print_stderr,
                reason = "a failed test shows what the program logged"
            )]
            {
                eprintln!("{}", self.logs());
            }
        }
        if self.up.try_wait().is_ok_and(|status| status.is_none()) && self.stop().is_err() {
            let _ = self.up.kill();
            let _ = self.up.wait();
        }
        drop(self.data.take());
    }
}

/// A node of the line of `up`; `None` without a process.
pub(crate) fn node_of(node: &Value) -> Option<Node> {
    let address = |key: &str| {
        node[key]
            .as_str()
            .and_then(|u| u.split("//").nth(1))
            .unwrap_or_default()
            .to_owned()
    };
    Some(Node {
        name: node["name"].as_str().unwrap_or_default().to_owned(),
        http: address("http"),
        https: address("https"),
        health: address("health"),
        meta: node["meta"].as_str().unwrap_or_default().to_owned(),
        pid: i32::try_from(node["pid"].as_i64()?).ok()?,
    })
}

/// Sends a signal.
///
/// # Errors
/// There is no such process.
pub fn signal(pid: i32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid).context("a process id is positive")?;
    kill_process(pid, signal).with_context(|| format!("process {pid:?} cannot be signalled"))
}

/// Processes that a process started.
///
/// # Errors
/// The process is gone.
pub fn children(pid: i32) -> anyhow::Result<Vec<i32>> {
    let mut all = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        all.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
    }
    Ok(all)
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be run.
pub fn said(command: &mut Command) -> anyhow::Result<Pushed> {
    Ok(command.output()?.into())
}

impl From<Output> for Pushed {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}
