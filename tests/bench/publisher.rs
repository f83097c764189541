//! Says the same messages again and again by a server's HTTP API, on one connection for as long as the server keeps it.

use crate::sockets::Sockets;
use anyhow::{Context, ensure};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// No answer takes this long.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// See the module.
pub struct Publisher {
    address: String,
    /// Head and body, with all messages of a batch.
    request: Vec<u8>,
    stream: Option<TcpStream>,
    /// A request is on its way.
    is_waiting: bool,
}

impl Publisher {
    /// With the request that it makes.
    pub fn new(address: &str, request: Vec<u8>) -> Self {
        Self {
            address: address.to_owned(),
            request,
            stream: None,
            is_waiting: false,
        }
    }

    /// Whether the last request is not answered yet.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Publishes a batch. That the answer is there, a wait of `sockets` says.
    pub fn publish(&mut self, sockets: &Sockets) -> anyhow::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(STEP_TIMEOUT))?;
                sockets.watch(&stream)?;
                stream
            }
        };
        stream.write_all(&self.request)?;
        self.is_waiting = true;
        self.stream = Some(stream);
        Ok(())
    }

    /// Reads the answer, which has begun to come. Without a request, the server does not keep the connection.
    pub fn answer(&mut self) -> anyhow::Result<()> {
        if !self.is_waiting {
            self.stream = None;
            return Ok(());
        }
        let mut stream = self.stream.take().context("a request was made")?;
        let mut bytes = Vec::new();
        let head = loop {
            read(&mut stream, &mut bytes)?;
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
            }
        };
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(found, _)| *found == name);
            found.map(|(_, value)| value.trim())
        };
        let length: usize = field("content-length")
            .context("an answer of known length")?
            .parse()?;
        while bytes.len() < head.len() + 4 + length {
            read(&mut stream, &mut bytes)?;
        }
        let body = String::from_utf8_lossy(&bytes[head.len() + 4..]);
        let is_fine = head.starts_with("http/1.1 200 ") || head.starts_with("http/1.0 200 ");
        ensure!(
            is_fine && !body.contains("\"error\""),
            "it was not published:\n{head}\n\n{body}"
        );
        self.is_waiting = false;
        let is_kept = head.starts_with("http/1.1") && field("connection") != Some("close");
        self.stream = is_kept.then_some(stream);
        Ok(())
    }
}

fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut piece = [0; 16 << 10];
    let read = stream.read(&mut piece)?;
    ensure!(read > 0, "the connection was closed before its answer");
    bytes.extend_from_slice(&piece[..read]);
    Ok(())
}
