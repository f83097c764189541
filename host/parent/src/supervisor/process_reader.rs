//! Reads what a child's process says, until it has ended: each word, and the end, is an event.

use protoplex_control::{messages::FromChild, socket::ControlSocket};
use std::{os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::{
    process::Child,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

/// Standard error of a child that has ended is read to its end by then: nobody else writes to it.
const FINAL_STDERR_TIMEOUT: Duration = Duration::from_millis(500);
/// The reason why a child ended is cut here: it goes into each heartbeat.
const REASON_BYTES_MAX: usize = 512;

/// Something that a child's process said or did.
pub(crate) struct ChildEvent {
    /// Index of the child.
    pub(crate) child: usize,
    /// Number of the process, so that a late word of a dead one is told apart.
    pub(crate) generation: u64,
    pub(crate) kind: ChildEventKind,
}

/// What happened to a child's process.
pub(crate) enum ChildEventKind {
    /// A message, with the files beside it.
    Said(FromChild, Vec<OwnedFd>),
    /// The process ended; says how.
    Ended(String),
}

/// Turns what a child's process says, and its end, into events.
pub(super) struct ProcessReader {
    pub(super) process: Child,
    /// The task that copies standard error, whose last line says why the process ended.
    pub(super) final_stderr: JoinHandle<String>,
    pub(super) channel: Arc<ControlSocket>,
    pub(super) child: usize,
    pub(super) generation: u64,
    pub(super) events: mpsc::Sender<ChildEvent>,
}

impl ProcessReader {
    /// Runs until the process has ended, of itself or because `killed` said so.
    pub(super) async fn run(mut self, killed: oneshot::Receiver<()>) {
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
                said = self.channel.receive::<FromChild>(), if open => match said {
                    Ok(Some((said, files))) => {
                        if !self.report(ChildEventKind::Said(said, files)).await {
                            return; // The parent is ending: the child sees its socket close, and drains.
                        }
                    }
                    Ok(None) => open = false,
                    Err(error) => {
                        tracing::error!(child = self.child, %error, "a child said something that is no message");
                        open = false;
                    }
                },
                () = &mut killed => {
                    let _ = self.process.kill().await;
                    break "killed".to_owned();
                }
                status = self.process.wait() => break match status {
                    // A signal comes from elsewhere: the last line of standard error is not why.
                    Ok(status) if status.code().is_some_and(|code| code != 0) => {
                        with_final_stderr(&status.to_string(), &mut self.final_stderr).await
                    }
                    Ok(status) => status.to_string(),
                    Err(error) => error.to_string(),
                },
            }
        };
        self.report(ChildEventKind::Ended(ended)).await;
    }

    /// Reports an event. Returns whether anybody takes it.
    async fn report(&self, kind: ChildEventKind) -> bool {
        let event = ChildEvent {
            child: self.child,
            generation: self.generation,
            kind,
        };
        self.events.send(event).await.is_ok()
    }
}

/// How a child ended and the last line of its standard error, which says why.
async fn with_final_stderr(status: &str, final_stderr: &mut JoinHandle<String>) -> String {
    let line = timeout(FINAL_STDERR_TIMEOUT, final_stderr).await;
    match line {
        Ok(Ok(line)) if !line.is_empty() => {
            let mut text = format!("{status}: {line}");
            text.retain(|letter| !letter.is_control());
            text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
            text
        }
        _ => status.to_owned(),
    }
}
