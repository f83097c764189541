//! Ends a child, told by its parent or without one. Requests in flight are finished either way.

use super::start::Child;
use protoplex_control::awake;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// Why a child stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The parent said `drain`, and shuts the sockets.
    Drained,
    /// The parent is gone. Nobody starts another child for the sockets that this one holds.
    Orphaned,
}

/// A terminal and an init system signal all processes of a node at once. What they mean is the parent's to decide; a
/// child hears it on the control socket, or its end.
pub(super) fn leave_signals_to_the_parent() -> anyhow::Result<()> {
    for kind in [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::alarm(),
        SignalKind::io(),
    ] {
        // The handler stays when this is dropped, and does nothing.
        drop(signal(kind)?);
    }
    Ok(())
}

impl Child {
    /// Finishes what is in flight, by the deadline. Returns how many requests were cut.
    pub(super) fn finish(&self) -> impl Future<Output = u64> + use<> {
        let timeout = Duration::from_millis(self.config.drain_timeout_ms);
        let limits = self.config.ingress.limits(self.config.children, timeout);
        let (server, context) = (Arc::clone(&self.server), Arc::clone(&self.context));
        let role = Arc::clone(&self.role);
        let log = self.access_log.clone();
        async move {
            server.drain();
            role.drain(limits.net.drain_window);
            context.servers.means.stop.cancel();
            let cut = match awake::timeout(timeout, server.drained()).await {
                Some(()) => 0,
                None => server.in_flight() as u64,
            };
            log.iter().for_each(|log| log.flush());
            role.handed_over().await;
            context.background.end().await;
            cut
        }
    }
}
