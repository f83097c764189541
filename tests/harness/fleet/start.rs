//! Starts a fleet: in a folder of its own, with a build and the arguments that a test is about.

use super::{Fleet, program, repository};
use anyhow::{Context, bail};
use protoplex_wire::role::{ROLES, Role};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// `up` has to serve by then. Generous: it compiles components on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

impl Fleet {
    /// Starts a fleet with a build of `tests/builds/` (or any path from the root).
    ///
    /// # Errors
    /// It did not serve in time; the text has what it said.
    pub fn start(build: &str) -> anyhow::Result<Self> {
        Self::start_with(build, &[])
    }

    /// Starts a fleet with more arguments for `up`.
    ///
    /// # Errors
    /// It did not serve in time; the text has what it said.
    pub fn start_with(build: &str, more: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let registry = data.path().join("registry");
        Self::start_in(data, registry, build, more, &Around::default())
    }

    /// Starts a fleet of another version of the program, that of an earlier commit for instance.
    ///
    /// # Errors
    /// It did not serve in time; the text has what it said.
    pub fn start_of(program: &Path, build: &str, more: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let (root, registry) = (data.path().join("data"), data.path().join("registry"));
        let (up, info) = up(
            program,
            &root,
            &registry,
            build,
            &strings(more),
            &Around::default(),
        )?;
        Ok(Self {
            up,
            data: Some(data),
            root,
            registry,
            info,
        })
    }

    /// Starts a fleet with a build whose manifest is this text; `"OUT/…"` in it is a component of `builds/out`.
    ///
    /// # Errors
    /// It did not serve in time; the text has what it said.
    pub fn start_text(manifest: &str, more: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let build = data.path().join("build.toml");
        let out = repository().join("builds/out");
        fs::write(
            &build,
            manifest.replace("\"OUT/", &format!("\"{}/", out.display())),
        )?;
        let registry = data.path().join("registry");
        let build = build.to_str().context("a temporary folder is text")?;
        Self::start_in(data, registry, build, more, &Around::default())
    }

    /// Starts a fleet whose nodes treat clients as this JSON of `--ingress` says.
    ///
    /// # Errors
    /// It did not serve in time; the text has what it said.
    pub fn start_with_ingress(build: &str, ingress: &str, more: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let file = data.path().join("ingress.json");
        fs::write(&file, ingress)?;
        let registry = data.path().join("registry");
        let file = file.to_str().context("a temporary folder is text")?;
        let more = [more, &["--ingress", file]].concat();
        Self::start_in(data, registry, build, &more, &Around::default())
    }

    /// Starts a fleet in which no process may have more descriptors than that.
    ///
    /// # Errors
    /// It did not serve in time; the text has what it said.
    pub fn start_within(descriptors: u64, build: &str, more: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let registry = data.path().join("registry");
        let around = Around {
            descriptors_max: Some(descriptors),
            ..Around::default()
        };
        Self::start_in(data, registry, build, more, &around)
    }

    /// Starts a fleet whose processes all have these environment variables.
    ///
    /// # Errors
    /// It did not serve in time; the text has what it said.
    pub fn start_env(
        build: &str,
        more: &[&str],
        env: &'static [(&'static str, &'static str)],
    ) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let registry = data.path().join("registry");
        let around = Around {
            env,
            ..Around::default()
        };
        Self::start_in(data, registry, build, more, &around)
    }

    /// Starts a fleet after `prepare` has put something into its data folder.
    ///
    /// # Errors
    /// It did not serve in time; the text has what it said.
    pub fn start_prepared(
        build: &str,
        more: &[&str],
        prepare: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let root = data.path().join("data");
        fs::create_dir(&root)?;
        prepare(&root)?;
        let registry = data.path().join("registry");
        Self::start_in(data, registry, build, more, &Around::default())
    }

    /// Starts a fleet that is found where that one is, when nothing says which is meant.
    ///
    /// # Errors
    /// It did not serve in time; the text has what it said.
    pub fn start_beside(other: &Self, build: &str) -> anyhow::Result<Self> {
        Self::start_in(
            tempfile::tempdir()?,
            other.registry.clone(),
            build,
            &[],
            &Around::default(),
        )
    }

    /// Stops `up` as Ctrl-C does, and starts it again on the same data.
    ///
    /// # Errors
    /// It did not stop, or does not serve.
    pub fn restart(&mut self, build: &str) -> anyhow::Result<Duration> {
        self.stop()?;
        self.start_again(build)
    }

    /// Starts it on the same data after [`Self::stop`]. Returns the time it took to serve.
    ///
    /// # Errors
    /// It does not serve.
    pub fn start_again(&mut self, build: &str) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let (up, info) = up(
            &program()?,
            &self.root,
            &self.registry,
            build,
            &small(&[]),
            &Around::default(),
        )?;
        (self.up, self.info) = (up, info);
        Ok(started.elapsed())
    }

    fn start_in(
        data: TempDir,
        registry: PathBuf,
        build: &str,
        more: &[&str],
        around: &Around,
    ) -> anyhow::Result<Self> {
        let root = data.path().join("data");
        let more = small(more);
        let (up, info) = up(&program()?, &root, &registry, build, &more, around)?;
        Ok(Self {
            up,
            data: Some(data),
            root,
            registry,
            info,
        })
    }
}

/// Limits and environment variables of the processes of a fleet.
#[derive(Default)]
struct Around {
    /// Most descriptors of a process, where a test sets that.
    descriptors_max: Option<u64>,
    /// Environment variables beside the test's own.
    env: &'static [(&'static str, &'static str)],
}

/// Roles of which a fleet has a node though its test does not say so.
const USUAL: [Role; 2] = [Role::Proxy, Role::App];

/// The arguments of `up` for a test: nodes of other roles than the usual are there only where the test is about them.
fn small(more: &[&str]) -> Vec<String> {
    let others = ROLES.iter().filter(|row| !USUAL.contains(&row.role));
    let others: Vec<_> = others.map(|row| format!("{}=0", row.name)).collect();
    // Of a role that is named twice the last counts.
    let mut all = vec!["--nodes".to_owned(), others.join(",")];
    all.extend(strings(more));
    all
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

/// Runs `up` until it serves. Returns its process and the line that it printed.
fn up(
    program: &Path,
    data: &Path,
    registry: &Path,
    build: &str,
    more: &[String],
    around: &Around,
) -> anyhow::Result<(Child, Value)> {
    // Shared by all tests, because compiling an interpreter takes long; and apart from the user's own.
    let native = program.with_file_name("test-native");
    let mut command = match around.descriptors_max {
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
        .arg("--data")
        .arg(data)
        .arg("--native")
        .arg(native)
        .args(more)
        // Apart from the user's own, too: nobody's `push` shall find a fleet of a test.
        .env("XDG_RUNTIME_DIR", registry)
        .envs(around.env.iter().copied())
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
