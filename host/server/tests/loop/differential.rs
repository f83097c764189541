//! Our loop beside hyper's, on the same bytes: what we accept, hyper accepts and reads the same. Where only hyper
//! accepts, we say why.

use crate::{
    grammar,
    support::{Running, later, serve, streamed},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use protoplex_http::Reply;
use protoplex_server::HttpLimits;
use rand::{SeedableRng, rngs::StdRng};
use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const CASES: usize = 8000;
const AT_ONCE: usize = 64;
/// Whether what came before was read to its end.
const SENTINEL: &str = "GET /sentinel HTTP/1.1\r\nHost: end\r\nConnection: close\r\n\r\n";

/// Where we are stricter by design.
const STRICTER: [(&str, &str); 14] = [
    ("a line ends with LF alone", "two readers may see two heads"),
    (
        "an empty line before the request",
        "one is forgiven, no more",
    ),
    ("Host is missing", "RFC 9112, section 3.2: MUST be refused"),
    (
        "Host stands twice",
        "RFC 9112, section 3.2: MUST be refused",
    ),
    (
        "Host is malformed",
        "RFC 9112, section 3.2: MUST be refused",
    ),
    (
        "both Content-Length and Transfer-Encoding",
        "the oldest way to smuggle",
    ),
    (
        "Content-Length stands twice",
        "even twice the same is nobody's honest request",
    ),
    (
        "Transfer-Encoding stands twice",
        "chunked is applied once (RFC 9112, section 7.1)",
    ),
    (
        "only `chunked` is known",
        "we undo no other coding, so we cannot pass one on",
    ),
    (
        "the target has a character that must be escaped",
        "a fragment, `\\`, quotes: read differently behind us",
    ),
    ("the target's authority is malformed", "no user in a target"),
    (
        "the target is neither a path nor a URI",
        "there is no authority form without CONNECT",
    ),
    (
        "a chunk's line ends with LF alone",
        "two readers may see two bodies",
    ),
    (
        "a chunk's size is no number",
        "no white space behind a size, no control characters in its extension",
    ),
];

/// Everything that matters of a request, in hexadecimal, for a header.
fn seen<'a>(
    request: (&str, &str, &str),
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    body: Option<&[u8]>,
) -> HeaderValue {
    let mut lines: Vec<String> = headers
        .filter(|(name, _)| !name.eq_ignore_ascii_case("host"))
        .map(|(name, value)| format!("{}: {}", name.to_ascii_lowercase(), value.escape_ascii()))
        .collect();
    lines.sort();
    let body = body.map(|body| body.escape_ascii().to_string());
    let text = format!("{request:?} {lines:?} {body:?}");
    let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&digits).unwrap()
}

async fn ours() -> Running {
    serve(HttpLimits::default(), |head, body| {
        let (method, path, authority) = (
            head.method.to_owned(),
            head.path.to_owned(),
            head.authority.to_owned(),
        );
        let headers: Vec<(String, Vec<u8>)> = head
            .headers
            .iter()
            .map(|field| (field.name.into(), field.value.into()))
            .collect();
        later(async move {
            let body = body.collect().await.ok().map(|body| body.to_bytes());
            let headers = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_slice()));
            let seen = seen((&method, &path, &authority), headers, body.as_deref());
            let empty = Full::new(Bytes::new()).map_err(|never| match never {});
            let mut reply: Reply = streamed(empty).with("x-seen".parse().unwrap(), seen);
            reply.status = StatusCode::OK;
            reply
        })
    })
    .await
}

async fn hypers() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(io), service_fn(hyper_says));
            tokio::spawn(serving);
        }
    });
    at
}

async fn hyper_says(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.ok().map(|body| body.to_bytes());
    let host = parts
        .headers
        .get("host")
        .map_or(&b""[..], |host| host.as_bytes());
    let host = String::from_utf8_lossy(host);
    let authority = parts
        .uri
        .authority()
        .map_or(&*host, |authority| authority.as_str());
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    // hyper leaves an empty path empty.
    let root = if path.starts_with('?') { "/" } else { "" };
    let path = &format!("{root}{path}");
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    let seen = seen(
        (parts.method.as_str(), path, authority),
        headers,
        body.as_deref(),
    );
    Ok(Response::builder()
        .header("x-seen", seen)
        .body(Full::default())
        .unwrap())
}

/// The bytes as hyper knows their version, which is 1.0 or 1.1 alone.
fn of_a_known_version(bytes: &[u8]) -> Vec<u8> {
    const LATER: &[u8] = b" HTTP/1.2\r\n";
    let mut bytes = bytes.to_vec();
    while let Some(at) = bytes.windows(LATER.len()).position(|text| text == LATER) {
        bytes[at..][..LATER.len()].copy_from_slice(b" HTTP/1.1\r\n");
    }
    bytes
}

/// A server's reading of the bytes.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    /// The requests it accepted with whole bodies, in order.
    accepted: Vec<String>,
    /// Our reason for refusing what came then.
    refused: Option<String>,
}

async fn feed(at: SocketAddr, bytes: &[u8], patience: Duration) -> Outcome {
    let mut io = TcpStream::connect(at).await.unwrap();
    // A server that has closed already has said why.
    let _ = io.write_all(&[bytes, SENTINEL.as_bytes()].concat()).await;
    let mut read = Vec::new();
    // Whoever waits for more of a body says nothing and does not close.
    let _ = tokio::time::timeout(patience, io.read_to_end(&mut read)).await;
    let text = String::from_utf8_lossy(&read);
    let mut outcome = Outcome::default();
    // A line that was cut by the end of our patience says nothing.
    let whole = text
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix("\r\n"));
    for line in whole {
        if let Some(digits) = line.strip_prefix("x-seen: ") {
            let bytes = (0..digits.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&digits[at..at + 2], 16));
            let seen: String = bytes.map(|byte| char::from(byte.unwrap())).collect();
            if !seen.ends_with("None") {
                outcome.accepted.push(seen);
            }
        }
    }
    let last = text.rfind("HTTP/1.1 ").map(|at| &text[at..]);
    if let Some((head, body)) = last.and_then(|last| last.split_once("\r\n\r\n"))
        && !head.starts_with("HTTP/1.1 200")
    {
        outcome.refused = body.lines().next().map(str::to_owned);
    }
    outcome
}

/// The reason for a permitted difference, or what is wrong.
fn compare(ours: &Outcome, hypers: &Outcome) -> Result<Option<&'static str>, &'static str> {
    let common = ours.accepted.len().min(hypers.accepted.len());
    if ours.accepted[..common] != hypers.accepted[..common] {
        return Err("the two read different requests");
    }
    if ours.accepted.len() > hypers.accepted.len() {
        return Err("we accept what hyper does not");
    }
    if ours.accepted.len() == hypers.accepted.len() {
        return Ok(None);
    }
    let reason = ours
        .refused
        .as_deref()
        .ok_or("hyper accepts where we say nothing")?;
    let known = STRICTER.iter().find(|(known, _)| *known == reason);
    known
        .map(|(known, _)| Some(*known))
        .ok_or("we refuse for a reason that is not on the list")
}

#[tokio::test]
async fn what_we_accept_hyper_accepts_and_reads_the_same() {
    let (running, hyper_at) = (ours().await, hypers().await);
    let mut random = StdRng::seed_from_u64(3);
    let cases: Vec<_> = (0..CASES).map(|_| grammar::request(&mut random)).collect();
    let both = |bytes: Vec<u8>, patience| async move {
        let known = of_a_known_version(&bytes);
        let fed = tokio::join!(
            feed(running.at, &bytes, patience),
            feed(hyper_at, &known, patience)
        );
        (bytes, fed.0, fed.1)
    };
    let mut fed = stream::iter(cases)
        .map(|bytes| both(bytes, Duration::from_millis(200)))
        .buffer_unordered(AT_ONCE);
    let (mut same, mut stricter) = (0, BTreeMap::<_, usize>::new());
    while let Some((bytes, mut ours, mut hypers)) = fed.next().await {
        if compare(&ours, &hypers).is_err() {
            // It may have been the machine that was slow.
            (_, ours, hypers) = both(bytes.clone(), Duration::from_secs(2)).await;
        }
        match compare(&ours, &hypers) {
            Ok(None) => same += usize::from(!ours.accepted.is_empty()),
            Ok(Some(reason)) => *stricter.entry(reason).or_default() += 1,
            Err(why) => panic!(
                "{why}\n{:?}\nours: {ours:#?}\nhyper's: {hypers:#?}",
                bytes.escape_ascii().to_string()
            ),
        }
    }
    // The comparison is worth something only while both sides of it happen.
    assert!(
        same > CASES / 4,
        "only {same} requests were accepted by both"
    );
    let reasons = STRICTER.iter().map(|(reason, _)| *reason);
    let unused: Vec<_> = reasons
        .filter(|reason| !stricter.contains_key(reason))
        .collect();
    assert!(
        unused.is_empty(),
        "no request needs these reasons: {unused:?}"
    );
}
