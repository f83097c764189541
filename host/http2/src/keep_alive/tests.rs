use super::*;
use bytes::Bytes;
use futures::FutureExt;
use std::future::poll_fn;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::timeout,
};

/// Type of a `PING`.
const PING: u8 = 6;
const INTERVAL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(15);

/// Serves a connection until its client is taken for gone.
async fn until_gone(io: DuplexStream) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    let pings = connection.ping_pong().unwrap();
    let mut keep_alive = KeepAlive::new(pings, Arc::default(), INTERVAL, INTERVAL);
    poll_fn(|cx| {
        assert!(connection.poll_accept(cx).is_pending());
        keep_alive.poll_gone(cx)
    })
    .await;
}

#[tokio::test]
async fn who_does_not_answer_a_ping_is_gone() {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    far.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    timeout(PATIENCE, until_gone(near)).await.unwrap();
    let mut told = Vec::new();
    far.read_to_end(&mut told).await.unwrap();
    let ping = [0, 0, 8, PING, 0, 0, 0, 0, 0];
    assert!(told.windows(ping.len()).any(|bytes| bytes == ping));
}

#[tokio::test]
async fn who_says_something_in_time_is_not_gone() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let client = async move {
        let (_send, connection) = h2::client::handshake::<_>(far).await.unwrap();
        connection.await.unwrap();
    };
    let heard: Arc<AtomicU64> = Arc::default();
    let serving = async {
        let mut connection: h2::server::Connection<_, Bytes> =
            h2::server::handshake(near).await.unwrap();
        let pings = connection.ping_pong().unwrap();
        let mut keep_alive = KeepAlive::new(pings, Arc::clone(&heard), INTERVAL, INTERVAL * 10);
        poll_fn(|cx| {
            assert!(connection.poll_accept(cx).is_pending());
            heard.fetch_add(1, Relaxed);
            keep_alive.poll_gone(cx)
        })
        .await;
    };
    tokio::select! {
        () = serving => panic!("it answers each ping"),
        () = client => panic!("nobody ended it"),
        () = tokio::time::sleep(INTERVAL * 40) => {}
    }
}

#[tokio::test]
async fn a_silence_in_which_nobody_was_asked_is_no_fault() {
    let (near, _far) = tokio::io::duplex(1 << 16);
    let (_send, mut connection) = h2::client::handshake::<_>(near).await.unwrap();
    let pings = connection.ping_pong().unwrap();
    let mut keep_alive = KeepAlive::new(pings, Arc::default(), INTERVAL, PATIENCE);
    keep_alive.since = Instant::now() - 2 * PATIENCE;
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(keep_alive.poll_gone(&mut cx).is_pending());
    assert!(keep_alive.asked);
}

#[tokio::test]
async fn who_answers_pings_and_says_nothing_else_is_asked_seldom() {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let (_send, mut connection) = h2::client::handshake::<_>(near).await.unwrap();
    let heard: Arc<AtomicU64> = Arc::default();
    let pings = connection.ping_pong().unwrap();
    let mut keep_alive =
        KeepAlive::new(pings, Arc::clone(&heard), INTERVAL, PATIENCE).seldom_in_quiet(PATIENCE);
    let asking = poll_fn(|cx| {
        assert!(connection.poll_unpin(cx).is_pending());
        keep_alive.poll_gone(cx)
    });
    // Whoever reads the pings says when the next one is allowed to come.
    let answering = async {
        far.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
        heard.fetch_add(9, Relaxed);
        let ping = [0, 0, 8, PING, 0, 0, 0, 0, 0];
        let mut told = Vec::new();
        let mut pings = async |far: &mut DuplexStream, number: usize| {
            while told
                .windows(ping.len())
                .filter(|seen| *seen == ping)
                .count()
                < number
            {
                far.read_buf(&mut told).await.unwrap();
            }
            told[told.len() - 8..].to_vec()
        };
        let pong = |payload: Vec<u8>| {
            let ack = [0, 0, 8, PING, 1, 0, 0, 0, 0];
            [&ack[..], &payload].concat()
        };
        let asked = timeout(PATIENCE, pings(&mut far, 1)).await.unwrap();
        far.write_all(&pong(asked)).await.unwrap();
        heard.fetch_add(PONG_BYTES, Relaxed);
        let again = timeout(INTERVAL * 20, pings(&mut far, 2)).await;
        assert!(again.is_err(), "it was asked again at once");
        // What is more than an answer makes it one that talks.
        far.write_all(b"\0\0\0\x04\x01\0\0\0\0").await.unwrap();
        heard.fetch_add(9, Relaxed);
        timeout(PATIENCE, pings(&mut far, 2)).await.unwrap();
    };
    tokio::select! { () = asking => panic!("it answers"), () = answering => {} }
}
