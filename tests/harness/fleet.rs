//! `protoplex up` in a temporary folder, on free ports. Everything it starts, it stops.

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// `up` has to serve by then. Generous: it compiles components on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

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
        .context("target/release/protoplex is missing; run `just test`, which builds it")?;
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
    /// Its name.
    pub name: String,
    /// `127.0.0.1:port`.
    pub http: String,
    /// Likewise.
    pub https: String,
    /// Likewise.
    pub health: String,
    /// `https://127.0.0.1:port`.
    pub meta: String,
    /// Process id of the parent.
    pub pid: i32,
}

/// What `push` said.
#[derive(Debug)]
pub struct Pushed {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Fleet {
    /// Starts a fleet with a build of `tests/builds/` (or any path from the root).
    ///
    /// # Errors
    /// It did not serve in time; the text has what it said.
    pub fn start(build: &str) -> anyhow::Result<Self> {
        Self::start_with(build, &[])
    }

    /// The same with more arguments for `up`.
    ///
    /// # Errors
    /// It did not serve in time; the text has what it said.
    pub fn start_with(build: &str, more: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let registry = data.path().join("registry");
        Self::start_in(data, registry, build, more, None)
    }

    /// The same where no process may have more descriptors than that.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_within(descriptors: u64, build: &str, more: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let registry = data.path().join("registry");
        Self::start_in(data, registry, build, more, Some(descriptors))
    }

    /// The same after `prepare` has put something into its data folder.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_prepared(
        build: &str,
        more: &[&str],
        prepare: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let root = data.path().join("data");
        std::fs::create_dir(&root)?;
        prepare(&root)?;
        let registry = data.path().join("registry");
        Self::start_in(data, registry, build, more, None)
    }

    /// Starts a fleet that is found where that one is, when nothing says which is meant.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_beside(other: &Self, build: &str) -> anyhow::Result<Self> {
        Self::start_in(
            tempfile::tempdir()?,
            other.registry.clone(),
            build,
            &[],
            None,
        )
    }

    fn start_in(
        data: TempDir,
        registry: PathBuf,
        build: &str,
        more: &[&str],
        descriptors: Option<u64>,
    ) -> anyhow::Result<Self> {
        let root = data.path().join("data");
        let (up, info) = up(&root, &registry, build, more, descriptors)?;
        Ok(Self {
            up,
            data: Some(data),
            root,
            registry,
            info,
        })
    }

    /// Stops `up` as Ctrl-C does, and starts it again on the same data.
    ///
    /// # Errors
    /// It did not stop, or does not serve.
    pub fn restart(&mut self, build: &str) -> anyhow::Result<Duration> {
        self.stop()?;
        self.start_again(build)
    }

    /// Starts it on the same data after [`Self::stop`]. The time it took to serve.
    ///
    /// # Errors
    /// It does not serve.
    pub fn start_again(&mut self, build: &str) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let (up, info) = up(&self.root, &self.registry, build, &[], None)?;
        (self.up, self.info) = (up, info);
        Ok(started.elapsed())
    }

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

fn up(
    data: &Path,
    registry: &Path,
    build: &str,
    more: &[&str],
    descriptors: Option<u64>,
) -> anyhow::Result<(Child, Value)> {
    let program = program()?;
    // Shared by all tests, because compiling an interpreter takes long; and apart from the user's own.
    let native = program.with_file_name("test-native");
    let mut command = match descriptors {
        None => Command::new(program),
        Some(most) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", "ulimit -n $0; exec \"$@\"", &most.to_string()]);
            shell.arg(program);
            shell
        }
    };
    command
        .args(["up", "--port-base", "0", "--json", "--build", build])
        // Only where a test is about it.
        .args(
            ["--live", "0"]
                .into_iter()
                .filter(|_| !more.contains(&"--live")),
        )
        .arg("--data")
        .arg(data)
        .arg("--native")
        .arg(native)
        .args(more)
        // Apart from the user's own, too: nobody's `push` shall find a fleet of a test.
        .env("XDG_RUNTIME_DIR", registry)
        .current_dir(repository())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let stderr = child.stderr.take().context("stderr is piped")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    let errors = std::thread::spawn(move || {
        let lines: Vec<_> = BufReader::new(stderr)
            .lines()
            .map_while(Result::ok)
            .collect();
        lines.join("\n")
    });
    let line = receiver.recv_timeout(START_TIMEOUT).unwrap_or_default();
    match serde_json::from_str(&line) {
        Ok(info) => Ok((child, info)),
        Err(_) => {
            let _ = child.kill();
            let _ = child.wait();
            bail!(
                "`up` did not serve: {line:?}\n{}",
                errors.join().unwrap_or_default()
            )
        }
    }
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
