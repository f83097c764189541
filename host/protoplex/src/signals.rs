//! Effects of signals, the same for `up`, a Seed and a node (children leave them to their node):
//!
//! - TERM, INT and QUIT: finish what is in flight, and end. A second one: end at once.
//! - HUP: read the certificates of HTTPS and the live secrets again. Nothing ends, also when a terminal is closed.
//! - USR1: look at the log files. Those that were moved away are begun anew by themselves, within a second.
//! - USR2, ALRM, IO: nothing. They mean nothing here, and would end the process.

use anyhow::Result;
use std::sync::Arc;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Requests that signals made of a process.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Cancelled to finish what is in flight, and end.
    pub stop: CancellationToken,
    /// Cancelled to end at once.
    pub stop_now: CancellationToken,
    /// Notified to read certificates again.
    pub reload: Arc<Notify>,
    /// Notified to look at the log files.
    pub reopen: Arc<Notify>,
    /// Task that listens; it ends when the last clone is dropped.
    listening: Option<Arc<AbortOnDropHandle<()>>>,
}

/// Listens from now on, as long as what is returned is held. None of these signals does what the kernel would do.
///
/// # Errors
/// A handler cannot be installed.
pub fn listen() -> Result<Signals> {
    let mut streams = SignalStreams {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        quit: signal(SignalKind::quit())?,
        hangup: signal(SignalKind::hangup())?,
        reopen: signal(SignalKind::user_defined1())?,
    };
    for meaningless in [
        SignalKind::user_defined2(),
        SignalKind::alarm(),
        SignalKind::io(),
    ] {
        // The handler stays when this is dropped, and does nothing.
        drop(signal(meaningless)?);
    }
    let mut signals = Signals::default();
    let asked = signals.clone();
    let listening = tokio::spawn(async move {
        loop {
            streams.next(&asked).await;
        }
    });
    signals.listening = Some(Arc::new(AbortOnDropHandle::new(listening)));
    Ok(signals)
}

struct SignalStreams {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    reopen: Signal,
}

impl SignalStreams {
    async fn next(&mut self, asked: &Signals) {
        tokio::select! {
            _ = self.terminate.recv() => asked.end(),
            _ = self.interrupt.recv() => asked.end(),
            _ = self.quit.recv() => asked.end(),
            _ = self.hangup.recv() => {
                asked.reload.notify_one();
                asked.reopen.notify_one();
            }
            _ = self.reopen.recv() => asked.reopen.notify_one(),
        }
    }
}

impl Signals {
    fn end(&self) {
        match self.stop.is_cancelled() {
            true => self.stop_now.cancel(),
            false => self.stop.cancel(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signal_drains_and_the_second_ends() {
        let signals = Signals::default();
        signals.end();
        assert!(signals.stop.is_cancelled() && !signals.stop_now.is_cancelled());
        signals.end();
        assert!(signals.stop_now.is_cancelled());
    }
}
