//! The accept loop of the fleet's own ports. It admits, accepts and spawns, and no error ends it: handshakes and
//! protocols are matters of a connection's task.

use crate::admission::{AdmissionLimits, AdmissionPermit, PortAdmission};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// After an accept that failed: without file descriptors, say, the next one fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener whose connections are served in tasks of their own.
pub struct AcceptLoop {
    /// Name of the port, for the log.
    pub port: &'static str,
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
        let accept = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, peer)) => {
                        if let Err(error) = stream.set_nodelay(true) {
                            tracing::debug!(%error, port = self.port, "TCP_NODELAY cannot be set on a connection");
                        }
                        let permit = admission.admit(peer.ip());
                        self.tasks.spawn(serve(stream, permit));
                    }
                    Err(error) => {
                        tracing::warn!(%error, port = self.port, "accepting a connection failed; tried again");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
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
            port: "test",
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
