//! A line to a server that is far away.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// One direction of a line: how many bytes are on it, and how many were at most. A window that does not grow keeps
/// that at its own size, however slow or fast this machine is.
#[derive(Default)]
pub struct OnTheWay {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl OnTheWay {
    fn enter(&self, bytes: usize) {
        let now = self.now.fetch_add(bytes, Relaxed) + bytes;
        self.most.fetch_max(now, Relaxed);
    }

    fn leave(&self, bytes: usize) {
        self.now.fetch_sub(bytes, Relaxed);
    }

    /// The most bytes that were on the line at once, over all its connections.
    pub fn most(&self) -> usize {
        self.most.load(Relaxed)
    }
}

/// A line to a server; ends with the runtime.
pub struct Far {
    pub address: SocketAddr,
    pub to_server: Arc<OnTheWay>,
    pub from_server: Arc<OnTheWay>,
}

/// Carries connections to a server, each byte so much later.
pub async fn far_from(server: SocketAddr, one_way: Duration) -> Far {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = Far {
        address: listener.local_addr().unwrap(),
        to_server: Arc::default(),
        from_server: Arc::default(),
    };
    let (up, down) = (far.to_server.clone(), far.from_server.clone());
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(server).await.unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(near_in, far_out, one_way, up.clone()));
            tokio::spawn(carry(far_in, near_out, one_way, down.clone()));
        }
    });
    far
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    one_way: Duration,
    on_the_way: Arc<OnTheWay>,
) {
    let (line, mut end) = mpsc::unbounded_channel::<(tokio::time::Instant, Vec<u8>)>();
    let arriving = on_the_way.clone();
    tokio::spawn(async move {
        while let Some((due, bytes)) = end.recv().await {
            tokio::time::sleep_until(due).await;
            arriving.leave(bytes.len());
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        on_the_way.enter(read);
        let due = tokio::time::Instant::now() + one_way;
        if line.send((due, buffer[..read].to_vec())).is_err() {
            return;
        }
    }
}
