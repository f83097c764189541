//! Messages pass a relay whole, and once: interim answers, trailers, large bodies, second tries.

use crate::relaying::{fleet, fleet_with};
use protoplex_tests::{Connection, Fleet, Origin, head_of, read_head};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const STEP_TIMEOUT: Duration = Duration::from_secs(20);

async fn client(fleet: &Fleet) -> TcpStream {
    TcpStream::connect(&fleet.node("proxy").http).await.unwrap()
}

async fn text(stream: &mut TcpStream, bytes: usize) -> String {
    let mut read = vec![0; bytes];
    timeout(STEP_TIMEOUT, stream.read_exact(&mut read))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(read).unwrap()
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    timeout(STEP_TIMEOUT, stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8_lossy(&rest).into_owned()
}

const EXPECTS: &[u8] =
    b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_waits_for_100_continue_goes_when_the_server_says_so() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        let head = head_of(&mut stream).await;
        assert!(head.contains("expect: 100-continue"), "{head}");
        stream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .await
            .unwrap();
        let body = text(&mut stream, 4).await;
        let answer =
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let mut client = client(&fleet).await;
    client.write_all(EXPECTS).await.unwrap();
    assert!(head_of(&mut client).await.starts_with("HTTP/1.1 100 "));
    client.write_all(b"body").await.unwrap();
    assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(text(&mut client, 4).await, "body");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_no_body_is_heard_before_the_client_sends_it() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        head_of(&mut stream).await;
        let answer = b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        assert_eq!(rest(&mut stream).await, "", "nobody sent a body");
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let mut client = client(&fleet).await;
    client.write_all(EXPECTS).await.unwrap();
    let head = head_of(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 417 "), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn early_hints_reach_the_client_before_the_answer() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        head_of(&mut stream).await;
        stream
            .write_all(
                b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x\r\n\r\n",
            )
            .await
            .unwrap();
        // Until the client has it, there is no answer.
        assert_eq!(text(&mut stream, 2).await, "go");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let mut client = client(&fleet).await;
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n")
        .await
        .unwrap();
    let hints = head_of(&mut client).await;
    assert_eq!(
        hints,
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
    );
    client.write_all(b"go").await.unwrap();
    assert!(head_of(&mut client).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways_without_what_belongs_in_a_head() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        head_of(&mut stream).await;
        let body = text(&mut stream, "2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n".len()).await;
        assert_eq!(body, "2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n");
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nho\r\n0\r\nx-sum: 2\r\ncontent-length: 9\r\n\r\n",
            )
            .await
            .unwrap();
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let mut client = client(&fleet).await;
    client
        .write_all(
            b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 1\r\nhost: evil\r\n\r\n",
        )
        .await
        .unwrap();
    head_of(&mut client).await;
    assert_eq!(rest(&mut client).await, "2\r\nho\r\n0\r\nx-sum: 2\r\n\r\n");
}

/// Bytes that show when some are missing, doubled or exchanged.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u64)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

const LARGE_BYTES: usize = 10 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_arrive_as_they_were_sent_at_whatever_pace_they_are_taken() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        while read_head(&mut stream).await.is_some() {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE_BYTES}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            if stream.write_all(&pattern(LARGE_BYTES)).await.is_err() {
                return;
            }
        }
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
    for _ in 0..3 {
        let answer = connection.get("/").await.unwrap();
        assert!(answer.body == pattern(LARGE_BYTES), "the body was changed");
    }
    // Piece by piece, so that both sockets fill up.
    let mut slow = client(&fleet).await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    head_of(&mut slow).await;
    let mut taken = Vec::new();
    while taken.len() < LARGE_BYTES {
        let mut piece = vec![0; (512 << 10).min(LARGE_BYTES - taken.len())];
        timeout(STEP_TIMEOUT, slow.read_exact(&mut piece))
            .await
            .unwrap()
            .unwrap();
        taken.extend(piece);
        tokio::task::yield_now().await;
    }
    assert!(taken == pattern(LARGE_BYTES), "the body was changed");
    // And the connection is as good as before.
    slow.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(head_of(&mut slow).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_that_the_server_cuts_never_looks_whole() {
    let origin = Origin::start(|mut stream: TcpStream| async move {
        head_of(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE_BYTES}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&pattern(LARGE_BYTES / 2)).await.unwrap();
    })
    .await
    .unwrap();
    let fleet = fleet(&origin);
    let answer = Connection::get_once(&fleet.node("proxy").http, "/").await;
    assert!(
        answer.is_err(),
        "{:?}",
        answer.map(|answer| answer.body.len())
    );
}

/// Counts connections and requests. Each connection answers `answered` requests, and closes at the next.
async fn closing(answered: usize) -> (Origin, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let origin = Origin::start(move |mut stream: TcpStream| {
        let count = Arc::clone(&count);
        async move {
            for _ in 0..answered {
                if read_head(&mut stream).await.is_none() {
                    return;
                }
                count.fetch_add(1, Relaxed);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
            if read_head(&mut stream).await.is_some() {
                count.fetch_add(1, Relaxed);
            }
        }
    })
    .await
    .unwrap();
    (origin, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_idle_connection_loses_is_sent_again_if_that_is_safe() {
    let (origin, requests) = closing(1).await;
    let fleet = fleet(&origin);
    let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
    for _ in 0..4 {
        assert_eq!(connection.get("/").await.unwrap().status, 200);
    }
    let before = requests.load(Relaxed);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(
            connection
                .request("POST", "/", &[], b"x")
                .await
                .unwrap()
                .status,
        );
    }
    // Each was seen by the server at most once: one that is not known to be unseen is not sent again.
    assert!(requests.load(Relaxed) - before <= 4, "{statuses:?}");
    assert!(statuses.contains(&502), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_costs_no_request() {
    let (origin, _) = closing(usize::MAX).await;
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let fleet = fleet_with(&[&gone, &origin.address], "", "");
    let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
    for _ in 0..20 {
        // Not even one that must not be repeated: it never got out.
        let answer = connection.request("POST", "/", &[], b"x").await.unwrap();
        assert_eq!(answer.status, 200);
    }
}
