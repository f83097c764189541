//! Uploads: time that the client takes is the client's, time that the server takes is the server's.

use crate::support::{Answer, Server, Spoken, get, group, outbound, read, send, serve, soon, text};
use crate::tls::{certificate, config};
use bytes::Bytes;
use futures::stream;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use protoplex_http::{Body, BodyError};
use protoplex_upstream::{Group, Outbound, RelayError, UpstreamCounters};
use protoplex_wire::manifest::{Ejection, Upstream, UpstreamProtocol, UpstreamTls};
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

/// Time that the server of these tests has for the head of its response.
const FIRST_BYTE: Duration = Duration::from_millis(400);
/// Time that it has between two writes or reads.
const IDLE: Duration = Duration::from_millis(600);
/// Between two pieces of an upload: more of them take longer than both.
const PAUSE: Duration = Duration::from_millis(250);
const PIECES: usize = 6;

/// Two servers at one address each, of which the first failure ejects one.
fn impatient(servers: &Servers) -> Upstream {
    Upstream {
        first_byte_timeout_ms: 400,
        idle_timeout_ms: 600,
        ejection: Ejection {
            failures: 1,
            ..Ejection::default()
        },
        ..servers.upstream.clone()
    }
}

struct Servers {
    upstream: Upstream,
    _running: Vec<Server>,
}

/// Two servers of each protocol that do the same.
async fn each_protocol<F, R>(answer: F) -> Vec<Servers>
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let mut all = Vec::new();
    for protocol in [
        UpstreamProtocol::Http1,
        UpstreamProtocol::H2c,
        UpstreamProtocol::Https,
        UpstreamProtocol::HttpsHttp1,
    ] {
        let mut servers = Servers {
            upstream: Upstream {
                protocol,
                ..Upstream::default()
            },
            _running: Vec::new(),
        };
        let own = certificate("back.internal");
        let is_tls = matches!(
            protocol,
            UpstreamProtocol::Https | UpstreamProtocol::HttpsHttp1
        );
        if is_tls {
            servers.upstream.tls = UpstreamTls {
                server_name: Some("back.internal".into()),
                ca_pem: Some(own.cert.pem()),
                node_certificate: false,
            };
        }
        for _ in 0..2 {
            let spoken = match protocol {
                UpstreamProtocol::Http1 => Spoken::Http1,
                UpstreamProtocol::H2c => Spoken::H2c(100),
                UpstreamProtocol::Https => config(&own, None, &["h2"]),
                UpstreamProtocol::HttpsHttp1 => config(&own, None, &["http/1.1"]),
            };
            let server = serve(spoken, answer.clone()).await;
            servers.upstream.addresses.push(server.address.clone());
            servers._running.push(server);
        }
        all.push(servers);
    }
    all
}

/// A body that comes in pieces, with a pause before each, and ends as `end` says.
fn slow_body(end: Option<BodyError>) -> Body {
    let pieces = stream::unfold((0, end), |(sent, end)| async move {
        tokio::time::sleep(PAUSE).await;
        match (sent, end) {
            (PIECES, None) => None,
            (PIECES, Some(error)) => Some((Err(error), (sent, None))),
            (_, end) => {
                let piece = Frame::data(Bytes::from_static(b"piece"));
                Some((Ok(piece), (sent + 1, end)))
            }
        }
    });
    Body::new(StreamBody::new(pieces))
}

fn post(body: Body) -> Outbound {
    outbound(Method::POST, "/", body)
}

/// Causes of failures, and whether a server was ejected.
fn booked(group: &Group, request: &UpstreamCounters) -> (Vec<&'static str>, bool) {
    let causes = request.failures().filter(|(_, count)| *count > 0);
    let servers = group.servers();
    let is_ejected = |index| servers.health(index, Instant::now()).is_ejected;
    (
        causes.map(|(cause, _)| cause).collect(),
        (0..servers.len()).any(is_ejected),
    )
}

/// Sends a request; the server is late, by its own fault, and is ejected for it.
async fn assert_late_and_counted(servers: &Servers, request: Outbound) {
    let group = group(&impatient(servers));
    let counters = Arc::clone(&request.counters);
    let failed = send(&group, request).await.unwrap_err();
    let what = servers.upstream.protocol;
    assert!(
        matches!(failed, RelayError::TooSlow { .. }),
        "{what:?}: {failed}"
    );
    assert_eq!(
        booked(&group, &counters),
        (vec!["timeout"], true),
        "{what:?}"
    );
}

/// Answers with the number of bytes that came.
async fn count(request: Request<Incoming>) -> Answer {
    let body = request.into_body().collect().await;
    match body {
        Ok(body) => text(body.to_bytes().len().to_string()),
        Err(error) => text(error.to_string()),
    }
}

#[tokio::test]
async fn an_upload_may_take_longer_than_the_server_has_for_its_answer() {
    for servers in each_protocol(count).await {
        let group = group(&impatient(&servers));
        let request = post(slow_body(None));
        let counters = Arc::clone(&request.counters);
        let started = Instant::now();
        let reply = send(&group, request).await;
        let what = servers.upstream.protocol;
        let reply = reply.unwrap_or_else(|error| panic!("{what:?}: {error}"));
        assert!(started.elapsed() > FIRST_BYTE + IDLE);
        assert_eq!(read(reply).await.unwrap(), "30", "{what:?}");
        assert_eq!(booked(&group, &counters), (vec![], false), "{what:?}");
    }
}

#[tokio::test]
async fn an_upload_may_go_on_behind_the_head_of_its_answer() {
    let echo = |request: Request<Incoming>| async {
        let body = request.into_body().map_err(Into::into);
        http::Response::new(body.boxed_unsync())
    };
    for servers in each_protocol(echo).await {
        let mut upstream = impatient(&servers);
        // Shorter than the pause between two pieces.
        upstream.idle_timeout_ms = 200;
        let reply = send(&group(&upstream), post(slow_body(None)))
            .await
            .unwrap();
        let said = read(reply).await;
        let what = servers.upstream.protocol;
        assert_eq!(said.unwrap(), "piece".repeat(PIECES), "{what:?}");
    }
}

#[tokio::test]
async fn a_server_that_has_all_and_is_silent_is_late_and_counted() {
    let silent = |request: Request<Incoming>| async {
        let _all = request.into_body().collect().await;
        std::future::pending().await
    };
    for servers in each_protocol(silent).await {
        assert_late_and_counted(&servers, post(slow_body(None))).await;
    }
}

#[tokio::test]
async fn a_server_that_takes_no_more_of_an_upload_is_late_and_counted() {
    // Its window is what it was; nothing is read of it.
    let deaf = |request: Request<Incoming>| async move {
        let _unread = request;
        std::future::pending().await
    };
    for servers in each_protocol(deaf).await {
        let piece = Bytes::from(vec![b'a'; 64 << 10]);
        let endless = stream::repeat_with(move || Ok(Frame::data(piece.clone())));
        assert_late_and_counted(&servers, post(Body::new(StreamBody::new(endless)))).await;
    }
}

#[tokio::test]
async fn a_clients_failure_is_never_booked_to_the_server() {
    for servers in each_protocol(count).await {
        let what = servers.upstream.protocol;
        for error in [
            BodyError::TooSlow,
            BodyError::Malformed("a chunk".into()),
            BodyError::Incomplete("it left".into()),
        ] {
            let group = group(&impatient(&servers));
            let request = post(slow_body(Some(error.clone())));
            let counters = Arc::clone(&request.counters);
            let failed = send(&group, request).await.unwrap_err();
            assert!(
                matches!(failed, RelayError::Client(_)),
                "{what:?}: {failed}"
            );
            assert_eq!(
                booked(&group, &counters),
                (vec!["client"], false),
                "{what:?}: {error}"
            );
            assert_eq!(counters.retries(), 0);
        }
        let group = group(&impatient(&servers));
        let request = post(slow_body(None));
        let counters = Arc::clone(&request.counters);
        let gone = tokio::time::timeout(PAUSE * 3 / 2, group.send(request)).await;
        assert!(gone.is_err(), "{what:?}");
        assert_eq!(booked(&group, &counters), (vec![], false), "{what:?}");
        let next = read(send(&group, get("/")).await.unwrap()).await;
        assert_eq!(next.unwrap(), "0", "{what:?}");
    }
}

#[tokio::test]
async fn the_total_timeout_is_booked_to_the_slower_side() {
    for servers in each_protocol(count).await {
        let mut upstream = impatient(&servers);
        upstream.total_timeout_ms = 700;
        let group = group(&upstream);
        let request = post(slow_body(None));
        let counters = Arc::clone(&request.counters);
        let failed = soon(group.send(request)).await.unwrap_err();
        let what = servers.upstream.protocol;
        let is_slow = matches!(failed, RelayError::Client(BodyError::TooSlow));
        assert!(is_slow, "{what:?}: {failed}");
        assert_eq!(
            booked(&group, &counters),
            (vec!["client"], false),
            "{what:?}"
        );
    }
}
