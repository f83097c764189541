//! The server that every relay of the bench stands in front of: it answers a GET from memory without looking at more
//! than its path, so that it is never the slow one. `/100` and `/1k` are bytes of text, `/10m` is bulk.

mod per_core;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// End of every head.
const END: &[u8] = b"\r\n\r\n";
/// Heads that may have come at once.
const READ_BYTES: usize = 16 << 10;

/// Responses of the server.
struct Answers {
    small: Vec<u8>,
    kilobyte: Vec<u8>,
    bulk: Vec<u8>,
}

impl Answers {
    fn of(&self, head: &[u8]) -> &[u8] {
        match head.strip_prefix(b"GET /") {
            Some(path) if path.starts_with(b"1k") => &self.kilobyte,
            Some(path) if path.starts_with(b"10m") => &self.bulk,
            _ => &self.small,
        }
    }
}

fn main() -> anyhow::Result<()> {
    let answers: &'static Answers = Box::leak(Box::new(Answers {
        small: answer(100),
        kilobyte: answer(1 << 10),
        bulk: answer(10 << 20),
    }));
    per_core::run(move |stream| async move {
        // A client that goes away ends it.
        let _ = connection(stream, answers).await;
    })
}

fn answer(bytes: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: back\r\nContent-Type: text/plain\r\nContent-Length: {bytes}\r\n\r\n"
    );
    let mut answer = head.into_bytes();
    answer.resize(answer.len() + bytes, b'x');
    answer
}

async fn connection(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut input = Vec::with_capacity(READ_BYTES);
    while stream.read_buf(&mut input).await? > 0 {
        while let Some(at) = input.windows(END.len()).position(|window| window == END) {
            stream.write_all(answers.of(&input[..at])).await?;
            input.drain(..at + END.len());
        }
    }
    Ok(())
}
