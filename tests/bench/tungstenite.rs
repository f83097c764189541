//! The peer `tungstenite`: tokio-tungstenite alone, on the runtime layout of a live node's children (one
//! single-threaded runtime and one `SO_REUSEPORT` socket each). It sends back what comes.

mod per_core;

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{accept_async, tungstenite::Error};

fn main() -> anyhow::Result<()> {
    per_core::run(|stream| async move {
        // A client that goes away ends it.
        let _ = echo(stream).await;
    })
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await.transpose()? {
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
