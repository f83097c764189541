//! Starting a child process, and the tasks that hear it.

use super::logs::Logs;
use crate::{
    channel::Channel,
    control::{CHILD_ENV, ChildConfig, FromChild},
};
use anyhow::Context;
use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    process::Stdio,
    sync::Arc,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

/// A line of a child's log is cut here.
const LOG_LINE_BYTES_MAX: usize = 16 << 10;

/// What a child did.
pub(super) enum ChildEvent {
    Said(FromChild, Vec<OwnedFd>),
    /// The process ended.
    Ended(String),
}

/// A running child.
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) channel: Arc<Channel>,
    pub(super) kill: tokio::sync::oneshot::Sender<()>,
}

/// Starts child `config.index`. `events` gets its generation, so that a late word of a dead one is told apart.
///
/// # Errors
/// No process or no descriptors.
pub(super) fn start(
    mut config: ChildConfig,
    generation: u64,
    logs: Arc<Logs>,
    events: mpsc::Sender<(usize, u64, ChildEvent)>,
) -> anyhow::Result<Process> {
    let (channel, theirs) = Channel::pair()?;
    config.control_fd = theirs.as_raw_fd();
    let inherited: Vec<RawFd> = config
        .http_fds
        .iter()
        .chain(&config.https_fds)
        .chain(&config.relay_fds)
        .chain(&config.internal_fds)
        .copied()
        .chain([config.control_fd])
        .collect();
    let mut command = Command::new(crate::program::this_program()?);
    command
        .arg("child")
        .env(CHILD_ENV, serde_json::to_string(&config)?);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // SAFETY: the closure runs between fork and exec and makes only fcntl calls, which are async-signal-safe; the
    // descriptors are open in the parent for as long as this call lasts.
    unsafe {
        command.pre_exec(move || {
            for fd in &inherited {
                let fd = std::os::fd::BorrowedFd::borrow_raw(*fd);
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        });
    }
    let mut child = command.spawn().context("a child cannot be started")?;
    drop(theirs);
    let pid = child.id().context("a new process has an id")?;
    tokio::spawn(pump(child.stdout.take(), Arc::clone(&logs)));
    tokio::spawn(pump(child.stderr.take(), logs));
    let channel = Arc::new(channel);
    let (kill, killed) = tokio::sync::oneshot::channel();
    tokio::spawn(hear(
        child,
        Arc::clone(&channel),
        killed,
        config.index,
        generation,
        events,
    ));
    Ok(Process { pid, channel, kill })
}

/// Passes on what a child says until its process has ended.
async fn hear(
    mut child: Child,
    channel: Arc<Channel>,
    mut killed: tokio::sync::oneshot::Receiver<()>,
    index: usize,
    generation: u64,
    events: mpsc::Sender<(usize, u64, ChildEvent)>,
) {
    let mut open = true;
    let ended = loop {
        tokio::select! {
            said = channel.receive::<FromChild>(), if open => match said {
                Ok(Some((said, fds))) => {
                    if events.send((index, generation, ChildEvent::Said(said, fds))).await.is_err() {
                        return; // The parent is ending; dropping the child kills it.
                    }
                }
                Ok(None) => open = false,
                Err(error) => {
                    tracing::error!(child = index, %error, "a child said something that is no message");
                    open = false;
                }
            },
            _ = &mut killed => {
                let _ = child.kill().await;
                break "killed".to_owned();
            }
            status = child.wait() => break status.map_or_else(|error| error.to_string(), |status| status.to_string()),
        }
    };
    let _ = events
        .send((index, generation, ChildEvent::Ended(ended)))
        .await;
}

/// A child's output goes to ours, and to the ring.
async fn pump(output: Option<impl AsyncRead + Unpin>, logs: Arc<Logs>) {
    let Some(output) = output else { return };
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(mut line)) = lines.next_line().await {
        line.truncate(line.floor_char_boundary(LOG_LINE_BYTES_MAX));
        #[expect(clippy::print_stderr, reason = "the log is standard error")]
        {
            eprintln!("{line}");
        }
        logs.push(&line);
    }
}
