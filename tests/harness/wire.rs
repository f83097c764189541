//! A network between clients and a server that can be interrupted: while it is, bytes are neither passed on nor refused,
//! and neither side is told.

use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinSet,
};

/// See the module. Its connections end with it.
pub struct Wire {
    /// Where clients connect.
    pub address: String,
    passes: Arc<watch::Sender<bool>>,
    _accepting: JoinSet<()>,
}

impl Wire {
    /// To a server.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn to(server: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let passes = Arc::new(watch::Sender::new(true));
        let (server, allowed) = (server.to_owned(), Arc::clone(&passes));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (server, allowed) = (server.clone(), allowed.subscribe());
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect(server).await {
                        let ((from, to), (back, there)) =
                            (client.into_split(), server.into_split());
                        let other = allowed.clone();
                        tokio::join!(carry(from, there, allowed), carry(back, to, other));
                    }
                });
            }
        });
        Ok(Self {
            address,
            passes,
            _accepting: accepting,
        })
    }

    /// Nothing passes from here on.
    pub fn interrupt(&self) {
        self.passes.send_replace(false);
    }

    /// Lets bytes pass: those that waited, and those that come.
    pub fn resume(&self) {
        self.passes.send_replace(true);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passes: watch::Receiver<bool>) {
    let mut piece = vec![0; 16 << 10];
    while let Ok(read) = from.read(&mut piece).await {
        if passes.wait_for(|passes| *passes).await.is_err() || read == 0 {
            break;
        }
        if to.write_all(&piece[..read]).await.is_err() {
            break;
        }
    }
    // The other direction may go on.
    let _ = to.shutdown().await;
}
