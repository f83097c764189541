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
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    time::timeout,
};

/// A guest that died sends nothing more after that, and its connection has ended.
const CUT_MAX: Duration = Duration::from_secs(60);

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

/// A listener whose queue is full: the kernel answers nobody, as a host that drops packets does.
async fn unreachable() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
        assert!(queued.len() < 100, "its queue has no end");
    }
    (listener, queued)
}

/// The time that the host sets where a guest sets none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_waits_no_longer_than_it_said_for_a_connection() {
    let (listener, _queued) = unreachable().await;
    let address = listener.local_addr().unwrap();
    let grant = format!("grants.outgoing = [\"{address}\"]");
    let fleet = with_handler("bad-app", &grant);
    let http = fleet.node("app").http;
    for (path, bounds) in [
        (
            "/outgoing-hasty",
            Duration::from_millis(300)..CONNECT_TIMEOUT,
        ),
        ("/outgoing", CONNECT_TIMEOUT..4 * CONNECT_TIMEOUT),
    ] {
        let started = Instant::now();
        let path = format!("{path}?to={address}/");
        let asked = Connection::get_once(&http, &path);
        let said = asked.await.unwrap().text().trim().to_owned();
        let took = started.elapsed();
        assert!(said.contains("ConnectionTimeout"), "{path}: {said}");
        assert!(bounds.contains(&took), "{path}: {took:?}");
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

/// All that comes of a request until the connection ends. A server that answers does so when half of it is there, as
/// one does that refuses: then the request goes on, and nothing but its own end shows whether it was whole.
async fn all_of(mut stream: TcpStream, answers: bool) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"half\r\n") {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            break;
        }
    }
    if answers {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let _ = stream.write_all(answer).await;
    }
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_was_sending_when_it_died_never_looks_whole() {
    for answers in [true, false] {
        let (seen, mut saw) = mpsc::channel(1);
        let origin = Origin::start(move |stream| {
            let seen = seen.clone();
            async move {
                let request = all_of(stream, answers).await;
                let _ = seen.send(request).await;
            }
        });
        let origin = origin.await.unwrap();
        let fleet = granted(&origin, "");
        let said = ask(&fleet, "/outgoing-cut", &origin).await;
        assert_eq!(said == "status 200", answers, "{said}");
        let request = timeout(CUT_MAX, saw.recv()).await;
        let request = request.expect("the connection ends").unwrap();
        assert!(request.contains("4\r\nhalf\r\n"), "{request}");
        assert!(
            !request.contains("\r\n0\r\n"),
            "answered {answers}: {request}"
        );
    }
}
