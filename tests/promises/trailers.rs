//! Trailers on their way through the proxy: from one protocol to the other, and both ways.

use super::relaying::{fleet, fleet_with};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Bytes;
use protoplex_tests::{Connection, Fleet, Origin, read_head};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const STEP_TIMEOUT: Duration = Duration::from_secs(10);
const APPS: &str = "tests/builds/cut.toml";

/// Names that a program which takes trailers for headers must not find there, in requests or responses.
const NEVER: [&str; 18] = [
    "host",
    "authorization",
    "cookie",
    "set-cookie",
    "content-length",
    "content-type",
    "content_length",
    "x-forwarded-for",
    "x_forwarded_for",
    "forwarded",
    "x-request-id",
    "protoplex-build",
    "proxy-authorization",
    "expect",
    "range",
    "location",
    "cache-control",
    "x-real-ip",
];
/// Headers that the handler of the fleet sets or removes in the head.
const EDITED: [&str; 2] = ["x-relay", "x-secret"];
const PASSED: &str = "x-sum";

fn all() -> impl Iterator<Item = &'static str> {
    NEVER.into_iter().chain(EDITED).chain([PASSED])
}

fn map() -> HeaderMap {
    let value = HeaderValue::from_static("1");
    all()
        .map(|name| (HeaderName::from_static(name), value.clone()))
        .collect()
}

fn lines() -> String {
    all().map(|name| format!("{name}: 1\r\n")).collect()
}

async fn connect(fleet: &Fleet) -> h2::client::SendRequest<Bytes> {
    let io = TcpStream::connect(fleet.node("proxy").http).await.unwrap();
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    send
}

fn post(fleet: &Fleet) -> Request<()> {
    let uri = format!("http://{}/", fleet.node("proxy").http);
    Request::post(uri).body(()).unwrap()
}

/// The body with its trailers, as text of HTTP/1.1.
async fn chunked(stream: &mut TcpStream) -> String {
    let mut body = Vec::new();
    while !(body.ends_with(b"\r\n\r\n") && body.windows(5).any(|end| end == b"\r\n0\r\n")) {
        body.push(
            timeout(STEP_TIMEOUT, stream.read_u8())
                .await
                .unwrap()
                .unwrap(),
        );
    }
    String::from_utf8(body).unwrap()
}

/// Sends back, as its body, the body of the request with its trailers; all trailers behind it.
async fn http1(mut stream: TcpStream) {
    while read_head(&mut stream).await.is_some() {
        let body = chunked(&mut stream).await;
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n{}\r\n",
            body.len(),
            lines(),
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn names(trailers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_http2_become_none_of_http1_that_belong_in_a_head() {
    let origin = Origin::start(http1).await.unwrap();
    let fleet = fleet(&origin);
    let mut send = connect(&fleet).await;
    let (answer, mut body) = send.send_request(post(&fleet), false).unwrap();
    body.send_data("hi".into(), false).unwrap();
    body.send_trailers(map()).unwrap();
    let answer = timeout(STEP_TIMEOUT, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let mut seen = Vec::new();
    while let Some(data) = body.data().await {
        seen.extend(data.unwrap());
    }
    assert_eq!(
        seen,
        format!("2\r\nhi\r\n0\r\n{PASSED}: 1\r\n\r\n").as_bytes()
    );
    // The handler edits heads of requests alone.
    let trailers = body.trailers().await.unwrap().unwrap();
    let [first, second] = EDITED;
    assert_eq!(names(&trailers), [first, second, PASSED]);
}

/// Answers by HTTP/2; the names of the request's trailers are the body.
async fn http2(stream: TcpStream) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer_http2(request, respond));
    }
}

async fn answer_http2(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        body.flow_control()
            .release_capacity(data.unwrap().len())
            .unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    let mut send = respond.send_response(Response::new(()), false).unwrap();
    send.send_data(names(&trailers).join(" ").into(), false)
        .unwrap();
    send.send_trailers(map()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_http1_become_none_of_http2_that_belong_in_a_head() {
    let origin = Origin::start(http2).await.unwrap();
    let fleet = fleet_with(&[&origin.address], "protocol = \"h2c\"", "");
    let mut client = TcpStream::connect(fleet.node("proxy").http).await.unwrap();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{}\r\n",
        lines()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut client).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let said = chunked(&mut client).await;
    let (body, trailers) = said.split_once("\r\n0\r\n").unwrap();
    assert_eq!(body, format!("{:x}\r\n{PASSED}", PASSED.len()));
    let trailers = trailers.lines().filter(|line| !line.is_empty());
    let mut names: Vec<_> = trailers
        .map(|line| line.strip_suffix(": 1").unwrap_or(line))
        .collect();
    names.sort_unstable();
    // The handler edits heads of requests alone.
    let [first, second] = EDITED;
    assert_eq!(names, [first, second, PASSED]);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_above_the_size_of_a_head_end_a_request() {
    let origin = Origin::start(http1).await.unwrap();
    let fleet = fleet(&origin);
    let mut send = connect(&fleet).await;
    let (answer, mut body) = send.send_request(post(&fleet), false).unwrap();
    let large = HeaderValue::try_from("y".repeat(20 << 10)).unwrap();
    body.send_data("hi".into(), false).unwrap();
    body.send_trailers(HeaderMap::from_iter([(
        HeaderName::from_static(PASSED),
        large,
    )]))
    .unwrap();
    let answer = timeout(STEP_TIMEOUT, answer).await.unwrap();
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 400));
}

/// The body of the answer to a GET by HTTP/2, which says that its client takes trailers or does not.
async fn by_http2(address: &str, path: &str, te: Option<&'static str>) -> String {
    let io = TcpStream::connect(address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut request = Request::get(format!("http://a{path}")).body(()).unwrap();
    if let Some(te) = te {
        let te = HeaderValue::from_static(te);
        request.headers_mut().insert("te", te);
    }
    let (answer, _) = send.send_request(request, true).unwrap();
    let answer = timeout(STEP_TIMEOUT, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let mut seen = Vec::new();
    while let Some(data) = body.data().await {
        seen.extend(data.unwrap());
    }
    String::from_utf8(seen).unwrap()
}

async fn by_http1(address: &str, path: &str, te: Option<&str>) -> String {
    let mut connection = Connection::open(address).await.unwrap();
    let te = te.map(|te| [("te", te), ("connection", "te")]);
    let lines = te.as_ref().map_or(&[][..], |lines| &lines[..]);
    let answer = connection.request("GET", path, lines, b"").await.unwrap();
    assert_eq!(answer.status, 200);
    answer.text()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_hears_through_any_hop_whether_its_client_takes_trailers() {
    let fleet = Fleet::start(APPS).unwrap();
    for role in ["proxy", "app"] {
        let address = fleet.node(role).http;
        for (te, heard) in [(Some("trailers"), "trailers"), (None, "none")] {
            let said = by_http2(&address, "/api/te", te).await;
            assert_eq!(said, heard, "{role} by HTTP/2");
            let said = by_http1(&address, "/api/te", te).await;
            assert_eq!(said, heard, "{role} by HTTP/1.1");
        }
        let said = by_http1(&address, "/api/te", Some("gzip;q=0.5, trailers")).await;
        assert_eq!(said, "trailers", "{role}: nothing else is decoded here");
        assert_eq!(by_http1(&address, "/api/te", Some("gzip")).await, "none");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_http1_hears_whether_its_client_takes_trailers() {
    let mirror = |head: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}",
            head.len()
        )
    };
    let origin = Origin::answering(mirror).await.unwrap();
    let fleet = fleet(&origin);
    let address = fleet.node("proxy").http;
    for (te, told) in [(Some("trailers"), true), (None, false)] {
        for head in [
            by_http2(&address, "/", te).await,
            by_http1(&address, "/", te).await,
        ] {
            let says = |line: &str| head.to_lowercase().contains(&format!("\r\n{line}\r\n"));
            // One without the other would be taken for a header that goes on (RFC 9110, section 10.1.4).
            assert_eq!(
                (says("te: trailers"), says("connection: te")),
                (told, told),
                "{head}"
            );
        }
    }
}
