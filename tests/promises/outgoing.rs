//! Requests that guests send: so many at once, each wait with an end, and never whole when the guest is not.

use crate::apps::with_handler;
use protoplex_tests::{Connection, Fleet, Origin, read_head};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

async fn ask(fleet: &Fleet, path: &str, origin: &Origin) -> String {
    let path = format!("{path}?to={}/", origin.address);
    let answer = Connection::get_once(&fleet.node("app").http, &path).await;
    answer.unwrap().text().trim().to_owned()
}

fn granted(origin: &Origin, lines: &str) -> Fleet {
    let grant = format!("grants.outgoing = [\"{}\"]\n{lines}", origin.address);
    with_handler("bad-app", &grant)
}

/// Waits until the other end has gone.
async fn gone(stream: &mut TcpStream) {
    while stream.read_u8().await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_waits_no_longer_than_it_said_for_a_response_or_a_piece() {
    let silent = Origin::start(|mut stream| async move { gone(&mut stream).await });
    let stalled = Origin::start(|mut stream| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf";
        let _ = stream.write_all(head).await;
        gone(&mut stream).await;
    });
    let steady = Origin::start(|mut stream| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n";
        let _ = stream.write_all(head).await;
        // Longer than the guest's patience in all, and never at once.
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let _ = stream.write_all(b"x").await;
        }
    });
    for (origin, expected) in [
        (silent.await.unwrap(), "HttpResponseTimeout"),
        (stalled.await.unwrap(), "ConnectionReadTimeout"),
        (steady.await.unwrap(), "8 bytes"),
    ] {
        let fleet = granted(&origin, "");
        let started = Instant::now();
        let said = ask(&fleet, "/outgoing-hasty", &origin).await;
        assert!(said.contains(expected), "{said}");
        assert!(started.elapsed() < Duration::from_secs(15), "{said}");
    }
}

/// The time in which a guest sends, and waits for what it is to send, is none of the server's.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_pauses_while_it_sends_gets_its_response() {
    let origin = Origin::start(|mut stream| async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n0\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    });
    let origin = origin.await.unwrap();
    let fleet = granted(&origin, "");
    let said = ask(&fleet, "/outgoing-paused", &origin).await;
    assert_eq!(said, "status 204");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_guests_are_open_only_so_many_at_once() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (Arc::clone(&open), Arc::clone(&most));
    let origin = Origin::start(move |mut stream| {
        let (open, most) = counted.clone();
        async move {
            while read_head(&mut stream).await.is_some() {
                most.fetch_max(open.fetch_add(1, Relaxed) + 1, Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                open.fetch_sub(1, Relaxed);
                let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    });
    let origin = origin.await.unwrap();
    let fleet = granted(&origin, "limits.outgoing_max = 8");
    // Who waits no longer than this gets its turn: 24 requests in groups of a quarter of eight, at 20 ms.
    let said = ask(&fleet, "/outgoing-many", &origin).await;
    assert!(said.ends_with("of 24"), "{said}");
    assert_ne!(said, "0 of 24");
    assert!(most.load(Relaxed) <= 2, "{} at once", most.load(Relaxed));
    assert_eq!(ask(&fleet, "/outgoing", &origin).await, "status 204");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_was_sending_when_it_died_never_looks_whole() {
    let (seen, mut saw) = mpsc::channel(1);
    let origin = Origin::start(move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            let _ = seen
                .send(String::from_utf8_lossy(&bytes).into_owned())
                .await;
        }
    });
    let origin = origin.await.unwrap();
    let fleet = granted(&origin, "");
    let _ = ask(&fleet, "/outgoing-cut", &origin).await;
    let request = saw.recv().await.unwrap();
    assert!(request.contains("4\r\nhalf\r\n"), "{request}");
    assert!(!request.contains("\r\n0\r\n"), "{request}");
}
