//! Readiness of a node: `GET /readyz` on its health port.

use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Time between two questions; a start is waited for by a person.
const POLL: Duration = Duration::from_millis(10);
/// Longest wait for a response: a health port answers from memory.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
const REQUEST: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Waits until the node says that it is ready. Cancel it to give up.
pub async fn wait(health: &str) {
    let address = health.trim_start_matches("http://");
    loop {
        let asked = tokio::time::timeout(RESPONSE_TIMEOUT, is_ready(address));
        if asked.await.unwrap_or(false) {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Asks once. The status line is all that matters, so no client library is used.
async fn is_ready(address: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(REQUEST).await?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await?;
        std::io::Result::Ok(start.ends_with(b" 200"))
    };
    ask.await.unwrap_or(false)
}
