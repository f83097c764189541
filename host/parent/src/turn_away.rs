//! Newcomers, which are connections that no child has accepted. Where no child comes up they are answered here: in a queue
//! that nobody serves they would wait for ever.

use socket2::Socket;
use std::{net::Shutdown, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use tokio_util::task::TaskTracker;

/// Once no child has come up for this long, newcomers are turned away. A start takes a second; those who come in that
/// time wait for it.
const TURN_AWAY_AFTER: Duration = Duration::from_secs(5);
/// Answers to newcomers that are being written at once; more newcomers are closed without one.
const ANSWERS_MAX: usize = 256;
/// A client has so long to take its answer and to close.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Newcomers of one socket that are turned away at one tick: the parent has other work.
const BATCH_MAX: usize = 1_024;

const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 38\r\nretry-after: 1\r\nconnection: close\r\n\r\nthis node cannot serve at the moment.\n";

/// Sockets of a node by what a newcomer can be told on them. They close with this, after the last child has drained.
pub(crate) struct NewcomerSockets {
    /// Sockets of plain HTTP for clients: a newcomer can be told 503.
    pub(crate) plain: Vec<Socket>,
    /// All else that clients and nodes connect to: a newcomer can only be closed.
    pub(crate) others: Vec<Socket>,
}

/// What becomes of connections that no child will take.
pub(crate) struct Newcomers {
    sockets: NewcomerSockets,
    answers: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Since when no child comes up, by the time in which this process ran.
    futile_since: Option<Duration>,
    /// Newcomers that were turned away so far.
    turned_away: u64,
}

impl Newcomers {
    /// Answers are written by tasks of `tasks`.
    pub(crate) fn new(sockets: NewcomerSockets, tasks: TaskTracker) -> Self {
        Self {
            sockets,
            answers: Arc::new(Semaphore::new(ANSWERS_MAX)),
            tasks,
            futile_since: None,
            turned_away: 0,
        }
    }

    /// Newcomers that were turned away so far.
    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away
    }

    /// Answers newcomers in place of children that do not come up, if that has been so for a while. `futility` says why
    /// none does. A child that does come up finds the same sockets.
    pub(crate) fn tick(&mut self, futility: Option<String>, awake: Duration) {
        let Some(reason) = futility else {
            self.futile_since = None;
            return;
        };
        if awake - *self.futile_since.get_or_insert(awake) < TURN_AWAY_AFTER {
            return;
        }
        let count = self.turn_away();
        if count > 0 && self.turned_away == 0 {
            tracing::error!(reason, "new connections are turned away");
        }
        self.turned_away += count;
    }

    /// Shuts the sockets, so that newcomers are refused: in a queue that nobody serves they would wait for the end of
    /// the drain.
    pub(crate) fn shut(&self) {
        for socket in self.sockets.plain.iter().chain(&self.sockets.others) {
            // One that is shut already is what we want.
            let _ = socket.shutdown(Shutdown::Read);
        }
    }

    /// Accepts whoever waits. Those on sockets of plain HTTP get a 503; the others (TLS, or nodes, which ask another node
    /// instead) are closed. Returns how many there were. Must be called in a runtime.
    fn turn_away(&self) -> u64 {
        let plain = waiting(&self.sockets.plain).map(|stream| self.answer(stream));
        let others = waiting(&self.sockets.others).map(drop);
        (plain.count() + others.count()) as u64
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

/// Accepts the connections that wait on sockets, some at once of each.
fn waiting(sockets: &[Socket]) -> impl Iterator<Item = Socket> {
    // An error is an empty queue, or a client that has left it.
    let accept = |socket: &Socket| socket.accept().ok().map(|(stream, _)| stream);
    let of_one = move |socket| (0..BATCH_MAX).map_while(move |_| accept(socket));
    sockets.iter().flat_map(of_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn newcomers_are_told_503_or_closed_and_none_waits() {
        let listen = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            (listener.local_addr().unwrap(), vec![Socket::from(listener)])
        };
        let ((plain_at, plain), (other_at, others)) = (listen(), listen());
        let sockets = NewcomerSockets { plain, others };
        let mut newcomers = Newcomers::new(sockets, TaskTracker::new());
        assert_eq!(newcomers.turn_away(), 0);
        let second = Duration::from_secs(1);
        let futility = || Some("no child comes up".to_owned());
        newcomers.tick(futility(), second);
        let mut client = TcpStream::connect(plain_at).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut other = TcpStream::connect(other_at).await.unwrap();
        newcomers.tick(
            futility(),
            second + TURN_AWAY_AFTER - Duration::from_millis(1),
        );
        assert_eq!(newcomers.turned_away(), 0, "a child may still come up");
        newcomers.tick(futility(), second + TURN_AWAY_AFTER);
        assert_eq!(newcomers.turned_away(), 2);
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

    #[tokio::test]
    async fn nobody_is_turned_away_while_a_child_comes_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let sockets = NewcomerSockets {
            plain: vec![listener.into()],
            others: Vec::new(),
        };
        let mut newcomers = Newcomers::new(sockets, TaskTracker::new());
        let _client = TcpStream::connect(address).await.unwrap();
        let futility = Some("no child comes up".to_owned());
        newcomers.tick(futility.clone(), TURN_AWAY_AFTER);
        // The time begins anew after a child that came up.
        newcomers.tick(None, TURN_AWAY_AFTER * 2);
        newcomers.tick(futility, TURN_AWAY_AFTER * 3);
        assert_eq!(newcomers.turned_away(), 0);
    }
}
