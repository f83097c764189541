//! Ports of the fleet's own: each connection that is accepted is admitted at the cost of the oldest, and served in a task,
//! to which handshake and protocol are left.

use crate::admission::{AdmissionLimits, AdmissionPermit, PortAdmission};
use protoplex_net::accept_all;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A listener whose connections are served in tasks of their own.
pub struct AcceptLoop {
    /// Listening socket of the port.
    pub listener: TcpListener,
    /// Limits of connections that hold their permit.
    pub limits: AdmissionLimits,
    /// Tracker of the connections' tasks.
    pub tasks: TaskTracker,
    /// Nothing is accepted after this. Connections have to look at it themselves.
    pub shutdown: CancellationToken,
}

impl AcceptLoop {
    /// Accepts until the shutdown. `serve` makes the task of a connection, which must end when its permit is revoked.
    pub async fn run<F>(self, serve: impl Fn(TcpStream, AdmissionPermit) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let admission = PortAdmission::new(self.limits);
        let each = |stream: TcpStream, peer: SocketAddr| {
            // Not fatal: the connection is slower.
            let _ = stream.set_nodelay(true);
            let permit = admission.admit(peer.ip());
            self.tasks.spawn(serve(stream, permit));
        };
        let accept = accept_all(&self.listener, each, || {});
        tokio::select! {
            () = accept => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Holds the connection until it has to make room.
    async fn greet(mut stream: TcpStream, permit: AdmissionPermit) {
        stream.write_all(b"hello").await.unwrap();
        permit.revoked().await;
    }

    #[tokio::test]
    async fn the_newest_is_served_until_the_shutdown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let accepting = AcceptLoop {
            listener,
            limits: AdmissionLimits {
                connections_max: 1,
                address_connections_max: 1,
            },
            tasks: TaskTracker::new(),
            shutdown: shutdown.clone(),
        };
        let running = tokio::spawn(accepting.run(greet));
        let greeted = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.read_exact(&mut [0; 5]).await.unwrap();
            stream
        };
        let mut oldest = greeted().await;
        let _newest = greeted().await;
        assert_eq!(oldest.read(&mut [0]).await.unwrap(), 0, "it made room");
        shutdown.cancel();
        running.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
