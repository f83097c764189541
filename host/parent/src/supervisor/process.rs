//! A child's process: its start, the queue of what it is told, and its kill.

use super::{
    child_log::copy_log,
    process_reader::{ChildEvent, ProcessReader},
};
use crate::logs::Logs;
use anyhow::Context;
use protoplex_control::{
    messages::{CHILD_ENV, ChildConfig, ToChild},
    socket::ControlSocket,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{
    process::Command,
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
};
use tokio_util::task::TaskTracker;

/// Messages that may wait for a child; one that lets more come together is stuck. A fleet of thousands changes its
/// directory some hundred times while a child warms a build up.
const MESSAGES_MAX: usize = 1_024;

/// A message for a child.
pub(crate) struct OutgoingMessage {
    pub(crate) message: ToChild,
    /// Files that travel beside the message.
    pub(crate) files: Vec<OwnedFd>,
}

/// A running child.
pub(super) struct Process {
    pid: u32,
    queue: mpsc::Sender<OutgoingMessage>,
    kill: oneshot::Sender<()>,
}

/// Why a message was not left for a child.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSent {
    /// The child has not read for so long that what it knows is not what the parent believes any more.
    #[error("{MESSAGES_MAX} messages wait for it")]
    QueueFull,
    /// The child's end is on its way as an event.
    #[error("it is gone")]
    Gone,
    /// No descriptors are left here.
    #[error("its files cannot be passed on: {0}")]
    Files(#[from] io::Error),
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Leaves a message in the child's queue. Never waits for the child.
    pub(super) fn send(&self, message: ToChild, files: &[&OwnedFd]) -> Result<(), NotSent> {
        let files = files.iter().map(|file| file.try_clone());
        let files = files.collect::<io::Result<_>>()?;
        let queued = self.queue.try_send(OutgoingMessage { message, files });
        queued.map_err(|error| match error {
            TrySendError::Full(_) => NotSent::QueueFull,
            TrySendError::Closed(_) => NotSent::Gone,
        })
    }

    /// Has the task that reads from the process kill it.
    pub(super) fn kill(self) {
        // The task of a process that has ended is gone.
        let _ = self.kill.send(());
    }

    /// Kills the process from here: this program ends next, and its tasks with it.
    pub(super) fn kill_now(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // The process may have ended a moment ago.
        let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
    }

    /// A process that does not exist, and whatever is left in its queue, which has room for `messages_max`.
    #[cfg(test)]
    pub(super) fn fake(messages_max: usize) -> (Self, mpsc::Receiver<OutgoingMessage>) {
        let (queue, sent) = mpsc::channel(messages_max);
        let (kill, _) = oneshot::channel();
        (
            Self {
                pid: 0,
                queue,
                kill,
            },
            sent,
        )
    }

    /// Time that the child's main thread was ready to run and had no processor, since its start. Zero where the kernel
    /// does not say (`proc(5)`, `schedstat`).
    pub(super) fn waited_for_cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid));
        let waited_ns = text.ok().and_then(|text| {
            let second = text.split_whitespace().nth(1)?;
            second.parse().ok()
        });
        Duration::from_nanos(waited_ns.unwrap_or_default())
    }
}

/// What the tasks of a child's process write to.
#[derive(Clone)]
pub(super) struct ProcessOutputs {
    pub(super) logs: Arc<Logs>,
    pub(super) events: mpsc::Sender<ChildEvent>,
    pub(super) tasks: TaskTracker,
}

/// Starts child `config.index`, which inherits all descriptors that its configuration names. `generation` is said with
/// each event of the process.
///
/// # Errors
/// No process or no descriptors.
pub(super) fn start(
    mut config: ChildConfig,
    generation: u64,
    outputs: &ProcessOutputs,
) -> anyhow::Result<Process> {
    let (channel, theirs) = ControlSocket::pair()?;
    config.control_fd = theirs.as_raw_fd();
    let mut child = command(&config)?
        .spawn()
        .context("a child cannot be started")?;
    drop(theirs);
    let pid = child.id().context("a new process has an id")?;
    let ProcessOutputs {
        logs,
        events,
        tasks,
    } = outputs.clone();
    tasks.spawn(copy_log(child.stdout.take(), Arc::clone(&logs)));
    let final_stderr = tasks.spawn(copy_log(child.stderr.take(), logs));
    let channel = Arc::new(channel);
    let (queue, queued) = mpsc::channel(MESSAGES_MAX);
    tasks.spawn(write_queued(queued, Arc::clone(&channel), config.index));
    let (kill, killed) = oneshot::channel();
    let reader = ProcessReader {
        process: child,
        final_stderr,
        channel,
        child: config.index,
        generation,
        events,
    };
    tasks.spawn(reader.run(killed));
    Ok(Process { pid, queue, kill })
}

/// This program as a child, with the descriptors that `config` names.
fn command(config: &ChildConfig) -> anyhow::Result<Command> {
    let inherited: Vec<RawFd> = config
        .http_fds
        .iter()
        .chain(&config.https_fds)
        .chain(&config.relay_fds)
        .chain(&config.internal_fds)
        .copied()
        .chain([config.control_fd, config.files_fd])
        .collect();
    let mut command = Command::new(protoplex_native::this_program()?);
    command
        .arg("child")
        .env(CHILD_ENV, serde_json::to_string(config)?);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
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
    Ok(command)
}

/// Sends a child what is queued for it, as fast as the child reads, until either is gone.
async fn write_queued(
    mut queued: mpsc::Receiver<OutgoingMessage>,
    channel: Arc<ControlSocket>,
    child: usize,
) {
    while let Some(OutgoingMessage { message, files }) = queued.recv().await {
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        if let Err(error) = channel.send(&message, &files).await {
            // Its end is on its way as an event.
            tracing::warn!(child, %error, "a message cannot be written to a child");
            return;
        }
    }
}
