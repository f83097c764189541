//! Answers newcomers where no child comes up: in a queue that nobody serves they would wait for ever.

use socket2::Socket;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use tokio_util::task::TaskTracker;

/// Once no child has come up for this long, newcomers are turned away. A start takes a second; those who come in that
/// time wait for it.
pub(super) const TURN_AWAY_AFTER: Duration = Duration::from_secs(5);
/// Answers that are being written at once; more newcomers are closed without one.
const ANSWERS_MAX: usize = 256;
/// A client has so long to take its answer and to close.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Newcomers of one socket at one tick: the parent has other work.
const BATCH_MAX: usize = 1_024;

const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 38\r\nretry-after: 1\r\nconnection: close\r\n\r\nthis node cannot serve at the moment.\n";

/// Turns newcomers away.
pub(super) struct Doorkeeper {
    answers: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Doorkeeper {
    /// Answers are written by tasks of `tasks`.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        let answers = Arc::new(Semaphore::new(ANSWERS_MAX));
        Self { answers, tasks }
    }

    /// Accepts whoever waits. Those on sockets of plain HTTP get a 503; the others (TLS, or nodes, which ask another node
    /// instead) are closed. Returns how many there were. Must be called in a runtime.
    pub(super) fn turn_away(&self, plain: &[Socket], others: &[Socket]) -> u64 {
        let mut count = 0;
        for (sockets, is_plain) in [(plain, true), (others, false)] {
            for socket in sockets {
                // An error is an empty queue, or a client that has left it.
                for (stream, _) in (0..BATCH_MAX).map_while(|_| socket.accept().ok()) {
                    count += 1;
                    if is_plain {
                        self.answer(stream);
                    }
                }
            }
        }
        count
    }

    fn answer(&self, stream: Socket) {
        let Ok(permit) = Arc::clone(&self.answers).try_acquire_owned() else {
            return;
        };
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream.into()));
        let Ok(mut stream) = stream else { return };
        self.tasks.spawn(async move {
            let answered = async {
                stream.write_all(ANSWER).await?;
                stream.shutdown().await?;
                // Closing on what it still sends would take its answer back.
                let mut unread = [0; 4_096];
                while stream.read(&mut unread).await? > 0 {}
                std::io::Result::Ok(())
            };
            // A client that goes away is not worth a line.
            let _ = timeout(ANSWER_TIMEOUT, answered).await;
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn newcomers_are_told_503_or_closed_and_none_waits() {
        let listen = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            (listener.local_addr().unwrap(), [Socket::from(listener)])
        };
        let ((plain_at, plain), (other_at, others)) = (listen(), listen());
        let doorkeeper = Doorkeeper::new(TaskTracker::new());
        assert_eq!(doorkeeper.turn_away(&plain, &others), 0);
        let mut client = TcpStream::connect(plain_at).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut other = TcpStream::connect(other_at).await.unwrap();
        assert_eq!(doorkeeper.turn_away(&plain, &others), 2);
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{text}"
        );
        assert_eq!(other.read(&mut [0; 9]).await.unwrap_or(0), 0);
    }
}
