//! How a child ends: told by its parent, or without one. What is in flight is finished either way.

use super::Child;
use crate::{
    awake,
    child::{handed::shut, live::Live},
    control::HAND_OVER_MAX,
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// How long a child without a parent goes on to accept: who has come to a sibling that died is let in.
const ORPHAN_ACCEPTS_FOR: Duration = Duration::from_millis(50);
/// Between two looks whether they have.
const HAND_OVER_LOOK: Duration = Duration::from_millis(20);

/// Why a child stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The parent said `drain`, and shuts the sockets.
    Told,
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
    ] {
        // The handler stays when this is dropped, and does nothing.
        drop(signal(kind)?);
    }
    Ok(())
}

impl Child {
    /// Lets in who has come to a sibling that died before the parent, or takes longer to see that the parent is gone.
    pub(super) async fn accept_for_siblings(&mut self) {
        for index in 0..self.config.children {
            if let Err(error) = self.listen(index) {
                tracing::warn!(
                    child = index,
                    error = format!("{error:#}"),
                    "a sibling's socket is not accepted on"
                );
            }
        }
        tokio::time::sleep(ORPHAN_ACCEPTS_FOR).await;
    }

    /// Shuts every listening socket, those of its siblings, too: they share a port with those of the parent's successor,
    /// and the kernel would go on to give them connections that nobody accepts.
    pub(super) fn shut(&mut self) {
        let config = &mut self.config;
        let sockets = [
            &mut config.http_fds,
            &mut config.https_fds,
            &mut config.relay_fds,
            &mut config.internal_fds,
        ];
        for fd in sockets.into_iter().flat_map(std::mem::take) {
            shut(fd);
        }
    }

    /// Finishes what is in flight, by the deadline. Returns how many requests were cut.
    pub(super) fn finish(&self) -> impl Future<Output = u64> + use<> {
        let timeout = Duration::from_millis(self.config.drain_timeout_ms);
        let limits = self.config.ingress.limits(self.config.children, timeout);
        let (server, shared) = (Arc::clone(&self.server), Arc::clone(&self.shared));
        let log = self.access_log.clone();
        async move {
            server.drain();
            Live::drain(&shared, limits.drain_window);
            shared.relay.means.stop.cancel();
            let cut = match awake::timeout(timeout, server.drained()).await {
                Some(()) => 0,
                None => server.in_flight() as u64,
            };
            log.iter().for_each(|log| log.flush());
            hand_over(&shared.live).await;
            cut
        }
    }
}

/// Waits until other children have taken the channels that are theirs now.
async fn hand_over(live: &Live) {
    let deadline = tokio::time::Instant::now() + HAND_OVER_MAX;
    while live.handing_over() > 0 {
        if tokio::time::Instant::now() > deadline {
            let channels = live.handing_over();
            tracing::warn!(channels, "nobody took these channels");
            return;
        }
        tokio::time::sleep(HAND_OVER_LOOK).await;
    }
}
