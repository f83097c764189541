//! Listeners: each has an accept loop, which ends by its handle or in a drain.

use crate::{
    Connections, Entrance, Protocol,
    accept::{OpenListener, accept, accept_rest},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Handle of one listener's accept loop.
pub struct ListenHandle {
    accepting: CancellationToken,
    /// Cancelled by [`Self::retire`]: connections accepted by this listener close after their current response.
    leaving: CancellationToken,
}

impl ListenHandle {
    /// Stops accepting. This process closes the socket; it stays open for others who hold it.
    pub fn stop(self) {
        self.accepting.cancel();
    }

    /// Stops accepting, and drains the connections accepted here.
    pub fn retire(self) {
        self.accepting.cancel();
        self.leaving.cancel();
    }
}

impl Connections {
    /// Accepts until it is told to stop, or the socket is shut; errors never end it. Admitted connections are served by
    /// `protocol`.
    pub fn listen<P: Protocol>(
        &self,
        listener: TcpListener,
        entrance: Entrance,
        protocol: P,
    ) -> ListenHandle {
        let accepting = CancellationToken::new();
        let leaving = self.draining().child_token();
        let handle = ListenHandle {
            accepting: accepting.clone(),
            leaving: leaving.clone(),
        };
        let all = self.clone();
        self.tasks().spawn(async move {
            let at = OpenListener {
                socket: listener,
                entrance,
                leaving,
                protocol,
            };
            tokio::select! {
                () = accepting.cancelled() => {}
                () = all.draining().cancelled() => accept_rest(&all, &at),
                () = accept(&all, &at) => {}
            }
        });
        handle
    }
}
