//! Starting a child process, and the tasks that hear it.

use super::logs::Logs;
use anyhow::Context;
use protoplex_control::{
    messages::{CHILD_ENV, ChildConfig, FromChild, ToChild},
    socket::ControlSocket,
};
use protoplex_telemetry::log_output;
use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::task::TaskTracker;

/// Orders that may wait for a child; one that lets more come together is stuck. A fleet of thousands changes its
/// directory some hundred times while a child warms a build up.
const ORDERS_MAX: usize = 1_024;
/// The output of a child that has ended is read to its end by then: nobody else writes to it.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(500);
/// Why a child ended is cut here: it goes into each heartbeat.
const REASON_BYTES_MAX: usize = 512;
/// A line of a child's log is cut here.
const LOG_LINE_BYTES_MAX: usize = 16 << 10;

/// An event of a child.
pub(super) enum ChildEvent {
    Said(FromChild, Vec<OwnedFd>),
    /// The process ended.
    Ended(String),
}

/// A message for a child, with the files beside it.
type Order = (ToChild, Vec<OwnedFd>);

/// A running child.
pub(super) struct Process {
    pub(super) pid: u32,
    orders: mpsc::Sender<Order>,
    kill: tokio::sync::oneshot::Sender<()>,
}

/// Why a child was not told something.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untold {
    /// The child has not read for so long that what it knows is not what we believe any more.
    #[error("{ORDERS_MAX} orders wait for it")]
    Full,
    /// The child's end is on its way as an event.
    #[error("it is gone")]
    Gone,
    /// No descriptors are left here.
    #[error("its files cannot be passed on: {0}")]
    Files(#[from] io::Error),
}

impl Process {
    /// Leaves an order in the child's queue. Never waits for the child.
    pub(super) fn tell(&self, message: ToChild, fds: &[&OwnedFd]) -> Result<(), Untold> {
        let fds = fds.iter().map(|fd| fd.try_clone());
        let order = (message, fds.collect::<io::Result<_>>()?);
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => Untold::Full,
            TrySendError::Closed(_) => Untold::Gone,
        })
    }

    /// Ends it at once.
    pub(super) fn kill(self) {
        // One that has ended hears nothing.
        let _ = self.kill.send(());
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

/// Starts child `config.index`, which inherits all descriptors that its configuration names. `events` gets its generation,
/// so that a late word of a dead one is told apart. What reads from it and writes to it are tasks of `tasks`.
///
/// # Errors
/// No process or no descriptors.
pub(super) fn start(
    mut config: ChildConfig,
    generation: u64,
    logs: Arc<Logs>,
    events: mpsc::Sender<(usize, u64, ChildEvent)>,
    tasks: &TaskTracker,
) -> anyhow::Result<Process> {
    let (channel, theirs) = ControlSocket::pair()?;
    config.control_fd = theirs.as_raw_fd();
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
        .env(CHILD_ENV, serde_json::to_string(&config)?);
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
    let mut child = command.spawn().context("a child cannot be started")?;
    drop(theirs);
    let pid = child.id().context("a new process has an id")?;
    tasks.spawn(pump(child.stdout.take(), Arc::clone(&logs)));
    let last_words = tasks.spawn(pump(child.stderr.take(), logs));
    let channel = Arc::new(channel);
    let (orders, queue) = mpsc::channel(ORDERS_MAX);
    tasks.spawn(pass_on(queue, Arc::clone(&channel), config.index));
    let (kill, killed) = tokio::sync::oneshot::channel();
    tasks.spawn(hear(
        (child, last_words),
        Arc::clone(&channel),
        killed,
        config.index,
        generation,
        events,
    ));
    Ok(Process { pid, orders, kill })
}

/// Sends what waits for a child, as fast as the child reads. Until either is gone.
async fn pass_on(mut orders: mpsc::Receiver<Order>, channel: Arc<ControlSocket>, index: usize) {
    while let Some((message, fds)) = orders.recv().await {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        if let Err(error) = channel.send(&message, &fds).await {
            // Its end is on its way as an event.
            tracing::warn!(child = index, %error, "a child cannot be told");
            return;
        }
    }
}

/// Passes on what a child says until its process has ended.
async fn hear(
    (mut child, last_words): (Child, JoinHandle<String>),
    channel: Arc<ControlSocket>,
    killed: tokio::sync::oneshot::Receiver<()>,
    index: usize,
    generation: u64,
    events: mpsc::Sender<(usize, u64, ChildEvent)>,
) {
    // A parent that ends without a word, as by a panic, kills nobody: its children drain.
    let killed = async {
        if killed.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let mut killed = std::pin::pin!(killed);
    let mut open = true;
    let ended = loop {
        tokio::select! {
            said = channel.receive::<FromChild>(), if open => match said {
                Ok(Some((said, fds))) => {
                    if events.send((index, generation, ChildEvent::Said(said, fds))).await.is_err() {
                        return; // The parent is ending: the child sees its socket close, and drains.
                    }
                }
                Ok(None) => open = false,
                Err(error) => {
                    tracing::error!(child = index, %error, "a child said something that is no message");
                    open = false;
                }
            },
            () = &mut killed => {
                let _ = child.kill().await;
                break "killed".to_owned();
            }
            status = child.wait() => break match status {
                // A signal comes from elsewhere: what it said last is not why.
                Ok(status) if status.code().is_some_and(|code| code != 0) => with_words(&status.to_string(), last_words).await,
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
        }
    };
    let _ = events
        .send((index, generation, ChildEvent::Ended(ended)))
        .await;
}

/// How a child ended and the last line of its standard error, which says why.
async fn with_words(status: &str, last_words: JoinHandle<String>) -> String {
    let words = timeout(LAST_WORDS_TIMEOUT, last_words).await;
    match words {
        Ok(Ok(words)) if !words.is_empty() => {
            let mut text = format!("{status}: {words}");
            text.retain(|letter| !letter.is_control());
            text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
            text
        }
        _ => status.to_owned(),
    }
}

/// A child's output goes to ours, and to the ring. Returns the last line that is not empty.
async fn pump(output: Option<impl AsyncRead + Unpin>, logs: Arc<Logs>) -> String {
    let mut last = String::new();
    let Some(output) = output else { return last };
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut output)
        .take(LOG_LINE_BYTES_MAX as u64)
        .read_until(b'\n', &mut line)
        .await
    {
        let is_whole = line.last() == Some(&b'\n');
        let text = String::from_utf8_lossy(&line);
        log_output::line(text.trim_end());
        logs.push(text.trim_end());
        if !text.trim_end().is_empty() {
            last.clear();
            last.push_str(text.trim_end());
        }
        line.clear();
        if !is_whole && !skip_line(&mut output).await {
            return last;
        }
    }
    last
}

/// Skips the rest of a line that was cut. `false` at the end of the output.
async fn skip_line(output: &mut (impl AsyncBufReadExt + Unpin)) -> bool {
    loop {
        let Ok(bytes) = output.fill_buf().await else {
            return false;
        };
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let length = bytes.len();
        output.consume(end.map_or(length, |end| end + 1));
        if end.is_some() || length == 0 {
            return end.is_some();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_no_text_or_too_long_ends_no_log() {
        let logs = Arc::new(Logs::default());
        let long = "x".repeat(LOG_LINE_BYTES_MAX + 20_000);
        let output = [b"a\xffb\n", long.as_bytes(), b"\nafter\nlast"].concat();
        let last = pump(Some(&output[..]), Arc::clone(&logs)).await;
        assert_eq!(last, "last");
        let (lines, _) = logs.read(9);
        let lengths: Vec<_> = lines.iter().map(|line| line.chars().count()).collect();
        assert_eq!(lengths, [3, LOG_LINE_BYTES_MAX, 5, 4]);
        assert_eq!(&*lines[3], "last");
    }
}
