//! One child process of `up`: started, watched, started again when it dies, and stopped.

use super::log_file;
use anyhow::{Context as _, Result, bail};
use protoplex_native::this_program;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Longest time of a start: a process that has said nothing for this long is taken for stuck. A node may have to
/// compile its last build first.
const START_TIMEOUT: Duration = Duration::from_secs(130);
/// The first pause before another start; doubled each time.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// The longest pause before another start.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// Life time after which a process is started again at once.
const STEADY: Duration = Duration::from_secs(30);
/// Time that a process gets beside its drain deadline: to leave, before (six seconds at most), and to clean up, after.
const STOP_MARGIN: Duration = Duration::from_secs(10);
/// Time between two looks whether all that a dead process left behind has ended.
const ORPHANS_LOOK: Duration = Duration::from_millis(50);
/// Most bytes of the ready line, which is small.
const READY_BYTES_MAX: u64 = 64 << 10;

/// Command line and environment of a process.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// Name of the process, for messages and the log file.
    pub name: String,
    /// Arguments: `seed --config …` for example.
    pub args: Vec<String>,
    /// File to which its stderr goes.
    pub log: PathBuf,
    /// Drain timeout of the process.
    pub drain_timeout: Duration,
}

/// State of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// The process is not ready yet.
    Starting,
    /// The process has bound its sockets.
    Ready {
        /// Process id.
        pid: u32,
    },
}

/// Keeps the process running until `stop`, then drains and ends it.
///
/// # Errors
/// Only when it does not come up the first time: later deaths are answered by another start.
pub async fn keep(
    spec: ProcessSpec,
    state: watch::Sender<ProcessState>,
    stop: CancellationToken,
) -> Result<()> {
    let mut back_off = BACK_OFF_MIN;
    let mut came_up = false;
    let mut orphans = JoinSet::new();
    while !stop.is_cancelled() {
        // Those that have ended.
        while orphans.try_join_next().is_some() {}
        let start = Instant::now();
        let reason = match run_once(&spec, &state, &stop, &mut orphans).await {
            Ok(ProcessEnd::Stopped) => break,
            // Somebody had it drain: no reason to keep its successor waiting.
            Ok(ProcessEnd::Drained) => {
                (came_up, back_off) = (true, BACK_OFF_MIN);
                "it drained".to_owned()
            }
            Ok(ProcessEnd::Died(reason)) => {
                came_up = true;
                reason
            }
            Err(error) if !came_up => return Err(error),
            Err(error) => format!("{error:#}"),
        };
        state.send_replace(ProcessState::Starting);
        if start.elapsed() > STEADY {
            back_off = BACK_OFF_MIN;
        }
        tracing::warn!(process = %spec.name, reason, back_off_ms = back_off.as_millis() as u64, "a process of the fleet ended, and is started again");
        tokio::select! {
            () = tokio::time::sleep(back_off) => {}
            () = stop.cancelled() => {}
        }
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
    while orphans.join_next().await.is_some() {}
    Ok(())
}

/// Processes that a dead process left behind; killed when this is dropped.
struct Orphans(u32);

impl Orphans {
    /// Waits until the processes have finished what they are at, by the deadline.
    async fn drain(self, deadline: Instant) {
        while is_group(self.0) && Instant::now() < deadline {
            tokio::time::sleep(ORPHANS_LOOK).await;
        }
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        signal_group(self.0, Signal::KILL);
    }
}

enum ProcessEnd {
    Stopped,
    /// The process ended by itself, and in order.
    Drained,
    Died(String),
}

async fn run_once(
    spec: &ProcessSpec,
    state: &watch::Sender<ProcessState>,
    stop: &CancellationToken,
    orphans: &mut JoinSet<()>,
) -> Result<ProcessEnd> {
    let mut child = spawn(spec)?;
    let pid = child
        .id()
        .context("a process that was just started has an id")?;
    let stdout = child.stdout.take().context("its stdout is a pipe")?;
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    let mut first = (&mut stdout).take(READY_BYTES_MAX);
    let ready = tokio::select! {
        read = tokio::time::timeout(START_TIMEOUT, first.read_line(&mut line)) => read,
        () = stop.cancelled() => {
            end(&mut child, pid, spec.drain_timeout).await;
            return Ok(ProcessEnd::Stopped);
        }
    };
    if !matches!(ready, Ok(Ok(_))) || !is_ready_line(&line) {
        let gone = tokio::time::timeout(Duration::from_millis(500), child.wait()).await;
        let how = match gone {
            Ok(Ok(status)) => format!("ended with {status}"),
            _ => format!("was not ready within {} s", START_TIMEOUT.as_secs()),
        };
        end(&mut child, pid, Duration::ZERO).await;
        let tail = log_file::tail(&spec.log);
        bail!(
            "{} {how}; the end of {}:\n{tail}",
            spec.name,
            spec.log.display()
        );
    }
    state.send_replace(ProcessState::Ready { pid });
    tokio::select! {
        status = child.wait() => {
            // A compiler ends by that. A node's children answer what they have begun, and have let go of the ports.
            signal_group(pid, Signal::TERM);
            let deadline = Instant::now() + spec.drain_timeout + STOP_MARGIN;
            orphans.spawn_local(Orphans(pid).drain(deadline));
            match status {
                Ok(status) if status.success() => Ok(ProcessEnd::Drained),
                Ok(status) => Ok(ProcessEnd::Died(status.to_string())),
                Err(error) => Ok(ProcessEnd::Died(error.to_string())),
            }
        }
        () = stop.cancelled() => {
            end(&mut child, pid, spec.drain_timeout).await;
            Ok(ProcessEnd::Stopped)
        }
    }
}

/// Starts a process in a group of its own, so that Ctrl-C reaches `up` alone, which then says who stops when.
fn spawn(spec: &ProcessSpec) -> Result<Child> {
    let program = this_program().context("finding this program")?;
    // A log that cannot be written is no reason not to serve.
    let log = log_file::open(&spec.log).map_or_else(
        |error| {
            tracing::error!(process = %spec.name, error = format!("{error:#}"), "a log file cannot be opened; its process runs without a log");
            Stdio::null()
        },
        Stdio::from,
    );
    Command::new(program)
        .args(&spec.args)
        .args(["--parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {}", spec.name))
}

fn is_ready_line(line: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(line).is_ok_and(|value| value.get("ready").is_some())
}

/// Ends a process: SIGTERM, the drain deadline, SIGKILL.
async fn end(child: &mut Child, pid: u32, drain_timeout: Duration) {
    if child.id().is_some() {
        signal_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(drain_timeout + STOP_MARGIN, child.wait())
        .await
        .is_err()
    {
        tracing::warn!(pid, "a process did not drain in time, and is killed");
    }
    signal_group(pid, Signal::KILL);
    let _ = child.wait().await;
}

/// Whether anybody is left of a process and all that it started.
fn is_group(pid: u32) -> bool {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    id.is_some_and(|id| test_kill_process_group(id).is_ok())
}

/// Signals a process.
pub fn signal_process(pid: u32, signal: Signal) {
    if let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // The process may have ended by itself.
        let _ = kill_process(id, signal);
    }
}

/// Signals a process and all that it started.
pub fn signal_group(pid: u32, signal: Signal) {
    if let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Usually nobody is left in it.
        let _ = kill_process_group(id, signal);
    }
}
