//! A body that is cut never looks whole: not by HTTP/1.0, HTTP/1.1 or HTTP/2, neither from the node that ran its handler
//! nor from the proxy before it.

use crate::relaying::{fleet, fleet_with};
use h2::Reason;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use protoplex_tests::{Connection, Fleet, Origin, read_head};
use std::{fmt, future::poll_fn, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const CUT: &str = "tests/builds/cut.toml";
const PATIENCE: Duration = Duration::from_secs(30);

/// Parts of a response that a client saw.
#[derive(Debug, Default)]
struct Seen {
    status: u16,
    body: Vec<u8>,
    /// The trailer that the guests send.
    trailer: Option<String>,
    /// The response ended as a whole one does.
    is_whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http10,
    Http11,
    Http2,
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

async fn get(spoken: Spoken, address: &str, host: &str, path: &str) -> Seen {
    let seen = async {
        match spoken {
            Spoken::Http10 => until_close(address, host, path, "HTTP/1.0").await,
            Spoken::Http11 => until_close(address, host, path, "HTTP/1.1").await,
            Spoken::Http2 => frames(address, host, path).await,
        }
    };
    timeout(PATIENCE, seen).await.expect("it ends in time")
}

/// Reads to the end of the connection, and then judges what came.
async fn until_close(address: &str, host: &str, path: &str, version: &str) -> Seen {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} {version}\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let reset = loop {
        match stream.read_buf(&mut bytes).await {
            Ok(0) => break false,
            Ok(_) => {}
            Err(_) => break true,
        }
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some((head, rest)) = text.split_once("\r\n\r\n") else {
        return Seen::default();
    };
    let status = head[9..12].parse().unwrap();
    let head = head.to_ascii_lowercase();
    let length = head.split_once("content-length: ");
    let length = length.map(|(_, value)| value.lines().next().unwrap().parse::<usize>().unwrap());
    let mut seen = Seen {
        status,
        body: rest.as_bytes().to_vec(),
        trailer: None,
        is_whole: length.map_or(!reset, |length| rest.len() >= length),
    };
    if head.contains("transfer-encoding: chunked") {
        seen.is_whole = false;
        seen.body.clear();
        unchunk(rest, &mut seen);
    }
    seen
}

fn unchunk(mut rest: &str, seen: &mut Seen) {
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            let line = after
                .lines()
                .find_map(|line| line.strip_prefix("x-trailer: "));
            seen.trailer = line.map(str::to_owned);
            seen.is_whole = after.ends_with("\r\n");
            return;
        }
        let piece = &after.as_bytes()[..size.min(after.len())];
        seen.body.extend_from_slice(piece);
        rest = after.get(size + 2..).unwrap_or_default();
    }
}

async fn frames(address: &str, host: &str, path: &str) -> Seen {
    let stream = TcpStream::connect(address).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("http://{host}{path}"));
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let Ok(response) = sender.send_request(request).await else {
        return Seen::default();
    };
    let mut seen = Seen {
        status: response.status().as_u16(),
        ..Seen::default()
    };
    let mut body = response.into_body();
    loop {
        match body.frame().await {
            None => {
                seen.is_whole = true;
                return seen;
            }
            Some(Err(_)) => return seen,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => seen.body.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap();
                    let value = trailers.get("x-trailer");
                    seen.trailer = value.map(|value| value.to_str().unwrap().to_owned());
                }
            },
        }
    }
}

/// A node's address with each way to speak to it: the one that runs the handler, and the proxy that relays to it.
fn ways(fleet: &Fleet) -> Vec<(Spoken, String)> {
    let mut ways = Vec::new();
    for spoken in [Spoken::Http10, Spoken::Http11, Spoken::Http2] {
        for role in ["app", "proxy"] {
            ways.push((spoken, fleet.node(role).http));
        }
    }
    ways
}

const TWO: &str = "two.test";
const THREE: &str = "three.test";

#[tokio::test(flavor = "multi_thread")]
async fn an_app_cut_after_a_piece_sends_the_piece_and_no_end() {
    let fleet = Fleet::start(CUT).unwrap();
    for (host, path, piece) in [
        (THREE, "/api/unreachable-body", "half"),
        (THREE, "/api/half-stream", "half"),
        (THREE, "/api/trailers-fail", "body"),
        (TWO, "/api/unreachable-body", "half"),
        (TWO, "/api/unfinished", "half"),
    ] {
        for (spoken, address) in ways(&fleet) {
            let seen = get(spoken, &address, host, path).await;
            let of = format!("{host}{path} by {spoken} of {address}: {seen:?}");
            assert!(!seen.is_whole, "{of}");
            assert_eq!(
                (seen.status, seen.body.as_slice()),
                (200, piece.as_bytes()),
                "{of}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_dies_before_its_first_piece_answers_with_no_empty_200() {
    let fleet = Fleet::start(CUT).unwrap();
    for (host, path, status) in [
        (THREE, "/api/unreachable-at-once", Some(500)),
        (THREE, "/api/unreachable-later", None),
        (THREE, "/api/trailers-fail-at-once", Some(502)),
        // Three bytes are the most, and it sends four.
        (THREE, "/api/four", Some(500)),
        (TWO, "/api/unreachable-at-once", Some(500)),
        (TWO, "/api/unreachable-later", None),
        (TWO, "/api/unfinished-at-once", Some(502)),
        (TWO, "/api/four", Some(500)),
    ] {
        for (spoken, address) in ways(&fleet) {
            let seen = get(spoken, &address, host, path).await;
            let of = format!("{host}{path} by {spoken} of {address}: {seen:?}");
            match status {
                Some(status) => assert_eq!(seen.status, status, "{of}"),
                // The head was out.
                None => assert!(!seen.is_whole, "{of}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_an_app_reach_the_client_with_a_body_or_without() {
    let fleet = Fleet::start(CUT).unwrap();
    for host in [THREE, TWO] {
        for (path, body) in [("/api/trailers", "body"), ("/api/trailers-only", "")] {
            for (spoken, address) in ways(&fleet) {
                let seen = get(spoken, &address, host, path).await;
                let of = format!("{host}{path} by {spoken} of {address}: {seen:?}");
                assert!(seen.is_whole, "{of}");
                assert_eq!(
                    (seen.status, seen.body.as_slice()),
                    (200, body.as_bytes()),
                    "{of}"
                );
                // HTTP/1.0 has none.
                let trailer = (spoken != Spoken::Http10).then_some("passed");
                assert_eq!(seen.trailer.as_deref(), trailer, "{of}");
            }
        }
    }
}

/// A head alone has no body that could be cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_alone_announces_no_length_of_a_body_that_died() {
    let fleet = Fleet::start(CUT).unwrap();
    for role in ["app", "proxy"] {
        let mut connection = Connection::open(&fleet.node(role).http).await.unwrap();
        for path in ["/api/unreachable-body", "/api/unreachable-later"] {
            let answer = connection.request("HEAD", path, &[], b"").await.unwrap();
            assert_eq!(answer.status, 200, "{role}{path}");
            assert_eq!(answer.header("content-length"), None, "{role}{path}");
        }
        let next = connection.get("/api/ok").await.unwrap();
        assert_eq!((next.status, next.text().as_str()), (200, "ok\n"), "{role}");
    }
}

/// Bytes of an origin, and how it then ends the connection.
#[derive(Clone, Copy, Debug)]
struct Sends {
    head: &'static str,
    bytes: usize,
    resets: bool,
}

/// Large enough to be moved from socket to socket.
const LARGE_BYTES: usize = 300_000;

async fn send(mut stream: TcpStream, sends: Sends) {
    if read_head(&mut stream).await.is_none() {
        return;
    }
    let body = vec![b'x'; sends.bytes];
    let sent = async {
        stream.write_all(sends.head.as_bytes()).await?;
        stream.write_all(&body).await?;
        // What has come is read before the end is heard of.
        tokio::time::sleep(Duration::from_millis(200)).await;
        std::io::Result::Ok(())
    };
    if sent.await.is_ok() && sends.resets {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_early_never_looks_whole_behind_a_proxy() {
    for sends in [
        Sends {
            head: "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n",
            bytes: 4,
            resets: false,
        },
        Sends {
            head: "HTTP/1.1 200 OK\r\ncontent-length: 600000\r\n\r\n",
            bytes: LARGE_BYTES,
            resets: false,
        },
        Sends {
            head: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            bytes: 0,
            resets: false,
        },
        Sends {
            head: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nhalf",
            bytes: 0,
            resets: false,
        },
        Sends {
            head: "HTTP/1.1 200 OK\r\n\r\n",
            bytes: LARGE_BYTES,
            resets: true,
        },
    ] {
        let origin = Origin::start(move |stream| send(stream, sends)).await;
        let origin = origin.unwrap();
        let fleet = fleet(&origin);
        for spoken in [Spoken::Http10, Spoken::Http11, Spoken::Http2] {
            let seen = get(spoken, &fleet.node("proxy").http, "a.test", "/").await;
            let of = format!("{sends:?} by {spoken}: {} bytes", seen.body.len());
            assert!(!seen.is_whole, "{of}");
        }
    }
}

/// A stream that is reset, with whatever reason, or whose connection is gone, has no end.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_a_server_resets_never_looks_whole_behind_a_proxy() {
    for reason in [
        Some(Reason::NO_ERROR),
        Some(Reason::CANCEL),
        Some(Reason::INTERNAL_ERROR),
        None,
    ] {
        let origin = Origin::start(move |stream| reset(stream, reason)).await;
        let origin = origin.unwrap();
        let fleet = fleet_with(&[&origin.address], "protocol = \"h2c\"\n", "");
        for spoken in [Spoken::Http10, Spoken::Http11, Spoken::Http2] {
            let seen = get(spoken, &fleet.node("proxy").http, "a.test", "/").await;
            assert!(!seen.is_whole, "{reason:?} by {spoken}: {seen:?}");
        }
    }
}

/// Answers with a piece and no end of the stream; without a reason the connection ends.
async fn reset(stream: TcpStream, reason: Option<Reason>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let mut body = respond
            .send_response(http::Response::new(()), false)
            .unwrap();
        body.send_data(Bytes::from_static(b"half"), false).unwrap();
        let flushed = poll_fn(|cx| connection.poll_closed(cx));
        // The piece goes out meanwhile.
        let _ = timeout(Duration::from_millis(200), flushed).await;
        match reason {
            Some(reason) => body.send_reset(reason),
            None => return,
        }
    }
}
