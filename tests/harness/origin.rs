//! A server behind the platform that does exactly what a test says, byte by byte.

use std::{future::Future, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A listening origin. It ends with the test.
pub struct Origin {
    /// `127.0.0.1:port`.
    pub address: String,
    accepting: JoinHandle<()>,
}

impl Origin {
    /// Gives every connection to `serve`.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start<F>(
        serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let serve = Arc::new(serve);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Ok(Self { address, accepting })
    }

    /// Answers every request of a connection with the bytes that `answer` gives for its head. Bodies are not read.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn answering<B>(
        answer: impl Fn(&str) -> B + Send + Sync + 'static,
    ) -> anyhow::Result<Self>
    where
        B: AsRef<[u8]> + Send + Sync + 'static,
    {
        let answer = Arc::new(answer);
        Self::start(move |stream| {
            let answer = Arc::clone(&answer);
            async move { answer_each(stream, &*answer).await }
        })
        .await
    }
}

/// Answers every request of one connection with the bytes that `answer` gives for its head. Bodies are not read.
pub async fn answer_each<B>(mut stream: TcpStream, answer: &(impl Fn(&str) -> B + Sync))
where
    B: AsRef<[u8]> + Send + Sync,
{
    while let Some(head) = read_head(&mut stream).await {
        let bytes = answer(&head);
        if stream.write_all(bytes.as_ref()).await.is_err() {
            return;
        }
    }
}

/// A 200 with this body, after which the connection is kept alive.
pub fn ok_with(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Reads one head; fails the test when the other end closes before it.
///
/// # Panics
/// There is no head.
pub async fn head_of(stream: &mut TcpStream) -> String {
    read_head(stream).await.expect("a head comes")
}

/// Reads one head, as text with its empty line. `None` when the other end closed before it.
pub async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
