//! A plain HTTP/1.1 client that hides nothing: one connection, raw bytes where a test wants them.

use anyhow::{Context, bail, ensure};
use std::{net::Ipv4Addr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// No single step of a test may hang longer.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that is kept alive.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    host: String,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header, by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Connection {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = timeout(STEP_TIMEOUT, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            host: address.to_owned(),
        })
    }

    /// Connects to `host:port` from another address of this machine, as another client would.
    ///
    /// # Errors
    /// Nobody listens, or this machine has no such address.
    pub async fn open_from(source: Ipv4Addr, address: &str) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        let stream = timeout(STEP_TIMEOUT, socket.connect(address.parse()?)).await??;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            host: address.to_owned(),
        })
    }

    /// One GET on a connection of its own.
    ///
    /// # Errors
    /// No whole response.
    pub async fn get_once(address: &str, path: &str) -> anyhow::Result<Response> {
        Self::open(address)
            .await?
            .request("GET", path, &[], b"")
            .await
    }

    /// GET.
    ///
    /// # Errors
    /// No whole response.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Response> {
        self.request("GET", path, &[], b"").await
    }

    /// Any request with a body of known length.
    ///
    /// # Errors
    /// No whole response.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Response> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT") {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "\r\n";
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(body).await?;
        self.response(method == "HEAD").await
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Resets the connection, as a client that is gone from one moment to the next.
    ///
    /// # Errors
    /// The system refuses.
    pub fn reset(self) -> anyhow::Result<()> {
        Ok(self.stream.set_zero_linger()?)
    }

    /// Whether the other end has closed, by then with nothing more to read.
    ///
    /// # Errors
    /// It neither closed nor reset within the step's time.
    pub async fn closed(&mut self) -> anyhow::Result<bool> {
        let mut byte = [0];
        Ok(matches!(
            timeout(STEP_TIMEOUT, self.stream.read(&mut byte)).await?,
            Ok(0) | Err(_)
        ))
    }

    /// Reads until these bytes came, and gives all that did, as text.
    ///
    /// # Errors
    /// The connection ended before.
    pub async fn until(&mut self, bytes: &[u8]) -> anyhow::Result<String> {
        timeout(STEP_TIMEOUT, async {
            while !self.buffer.windows(bytes.len()).any(|seen| seen == bytes) {
                self.fill().await?;
            }
            Ok(String::from_utf8_lossy(&self.buffer).into_owned())
        })
        .await
        .context("these bytes never came")?
    }

    /// Reads until these bytes came, and takes what there is up to their end.
    ///
    /// # Errors
    /// The connection ended before.
    pub async fn take_until(&mut self, bytes: &[u8]) -> anyhow::Result<String> {
        self.until(bytes).await?;
        let at = self
            .buffer
            .windows(bytes.len())
            .position(|seen| seen == bytes);
        let taken = self.buffer.drain(..at.context("it came")? + bytes.len());
        Ok(String::from_utf8_lossy(&taken.collect::<Vec<_>>()).into_owned())
    }

    /// Reads one response.
    ///
    /// # Errors
    /// The connection ended before its end.
    pub async fn response(&mut self, head_only: bool) -> anyhow::Result<Response> {
        timeout(STEP_TIMEOUT, self.read_response(head_only))
            .await
            .context("no response in time")?
    }

    /// Reads the body that follows a head, as `response(true)` gave it.
    ///
    /// # Errors
    /// The connection ended before its end.
    pub async fn rest(&mut self, mut head: Response) -> anyhow::Result<Response> {
        let read = timeout(STEP_TIMEOUT, self.read_body(&head)).await;
        head.body = read.context("no body in time")??;
        Ok(head)
    }

    async fn read_response(&mut self, head_only: bool) -> anyhow::Result<Response> {
        let end = loop {
            if let Some(at) = self
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break at;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .context("no status line")?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut response = Response {
            status,
            headers,
            body: Vec::new(),
        };
        if head_only || status == 304 || status == 204 || (100..200).contains(&status) {
            return Ok(response);
        }
        response.body = self.read_body(&response).await?;
        Ok(response)
    }

    async fn read_body(&mut self, head: &Response) -> anyhow::Result<Vec<u8>> {
        if head
            .header("transfer-encoding")
            .is_some_and(|te| te.eq_ignore_ascii_case("chunked"))
        {
            self.chunks().await
        } else if let Some(length) = head.header("content-length") {
            self.exactly(length.parse()?).await
        } else {
            bail!("a response without framing")
        }
    }

    async fn chunks(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size =
                usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size).await?);
            ensure!(
                self.line().await?.is_empty(),
                "a chunk is longer than its size"
            );
        }
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
                self.buffer.drain(..at + 2);
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// The connection ended before.
    pub async fn exactly(&mut self, length: usize) -> anyhow::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(
            read > 0,
            "the connection was closed in the middle of a response"
        );
        Ok(())
    }
}
