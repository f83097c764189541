//! A WebSocket client of a fleet.

use anyhow::{Context, bail};
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue, protocol::CloseFrame},
};

/// Whatever is waited for has come by then, or never will.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// The header that asks for the channel protocol.
pub const CHANNELS: (&str, &str) = ("sec-websocket-protocol", "protoplex.v1");

/// One connection.
#[derive(Debug)]
pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Connects to `address` and asks for a path, without the channel protocol.
    ///
    /// # Errors
    /// The server refuses; the text has its status.
    pub async fn open(address: &str, path: &str) -> anyhow::Result<Self> {
        Self::open_with(address, path, &[]).await
    }

    /// Connects with more headers.
    ///
    /// # Errors
    /// The server refuses; the text has its status.
    pub async fn open_with(
        address: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Self::open_over(stream, address, path, headers).await
    }

    /// Speaks WebSocket over a connection that is there.
    ///
    /// # Errors
    /// The server refuses; the text has its status.
    pub async fn open_over(
        stream: TcpStream,
        address: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> anyhow::Result<Self> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value)?;
            request.headers_mut().insert(*name, value);
        }
        let opened = timeout(WAIT_MAX, client_async(request, stream)).await?;
        Ok(Self(opened?.0))
    }

    /// Speaks the channel protocol; the welcome is read.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn channels(address: &str, path: &str) -> anyhow::Result<Self> {
        let mut socket = Self::open_with(address, path, &[CHANNELS]).await?;
        let welcome = socket.object().await?;
        anyhow::ensure!(welcome["welcome"].is_object(), "{welcome}");
        Ok(socket)
    }

    /// Sends text.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.0.send(Message::text(text)).await?)
    }

    /// Sends any message.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send_message(&mut self, message: Message) -> anyhow::Result<()> {
        Ok(self.0.send(message).await?)
    }

    /// The next message that is no sign of life.
    ///
    /// # Errors
    /// The connection broke, or nothing came.
    pub async fn next(&mut self) -> anyhow::Result<Message> {
        let next = async {
            loop {
                match self.0.next().await.context("the connection ended")?? {
                    Message::Ping(_) | Message::Pong(_) => {}
                    message => return Ok(message),
                }
            }
        };
        timeout(WAIT_MAX, next).await.context("nothing comes")?
    }

    /// The next text.
    ///
    /// # Errors
    /// Something else came.
    pub async fn text(&mut self) -> anyhow::Result<String> {
        match self.next().await? {
            Message::Text(text) => Ok(text.to_string()),
            other => bail!("no text: {other:?}"),
        }
    }

    /// Sends text, and reads what comes then.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn ask(&mut self, text: &str) -> anyhow::Result<String> {
        self.send(text).await?;
        self.text().await
    }

    /// The next object.
    ///
    /// # Errors
    /// Something else came.
    pub async fn object(&mut self) -> anyhow::Result<Value> {
        let text = self.text().await?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// Sends a command, and reads the answer to it; what comes before is given to `seen`.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn command(
        &mut self,
        command: Value,
        seen: &mut Vec<Value>,
    ) -> anyhow::Result<Value> {
        let id = command["id"].clone();
        self.send(&command.to_string()).await?;
        loop {
            let object = self.object().await?;
            if object["id"] == id {
                return Ok(object);
            }
            seen.push(object);
        }
    }

    /// The frame with which the server closed the connection.
    ///
    /// # Errors
    /// It broke instead.
    pub async fn closed(&mut self) -> anyhow::Result<Option<CloseFrame>> {
        loop {
            if let Message::Close(frame) = self.next().await? {
                return Ok(frame);
            }
        }
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn close(mut self) -> anyhow::Result<()> {
        Ok(self.0.close(None).await?)
    }

    /// Whether nothing comes for a while.
    pub async fn is_silent(&mut self, for_so_long: Duration) -> bool {
        timeout(for_so_long, self.next()).await.is_err()
    }
}
