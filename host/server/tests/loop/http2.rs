//! HTTP/2: the same promises as HTTP/1.1, by streams.

use crate::support::{Dropped, Running, collect, later, serve, soon, streamed, text};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use protoplex_http::{Answer, Reply, StreamError};
use protoplex_server::HttpLimits;
use std::sync::Arc;
use tokio::{net::TcpStream, sync::Barrier};

/// A client on one connection.
pub struct Client {
    pub send: SendRequest<Full<Bytes>>,
}

pub async fn client<IO>(io: IO) -> Client
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (send, connection) = builder.handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    Client { send }
}

pub async fn plain(running: &Running) -> Client {
    client(TcpStream::connect(running.at).await.unwrap()).await
}

type Found = (u16, HeaderMap, String);

impl Client {
    pub async fn get(&mut self, uri: &str) -> Result<Found, hyper::Error> {
        self.ask(Request::get(uri).body(Full::default()).unwrap())
            .await
    }

    pub async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Found, hyper::Error> {
        let (parts, body) = soon(self.send.send_request(request)).await?.into_parts();
        let body = soon(body.collect()).await?.to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Ok((parts.status.as_u16(), parts.headers, body))
    }
}

fn request() -> http::request::Builder {
    Request::get("http://a/")
}

#[tokio::test]
async fn prior_knowledge_is_enough_on_the_plain_port() {
    let running = serve(HttpLimits::default(), |head, _| {
        text(format!(
            "{} {} {} {}",
            head.version, head.method, head.authority, head.path
        ))
    })
    .await;
    let mut client = plain(&running).await;
    for _ in 0..3 {
        let (status, headers, body) = client.get("http://a:80/x?y").await.unwrap();
        assert_eq!((status, body.as_str()), (200, "20 GET a:80 /x?y"));
        assert_eq!(headers["x-request-id"].len(), 16);
    }
}

#[tokio::test]
async fn two_authorities_or_a_malformed_target_are_refused() {
    let running = serve(HttpLimits::default(), |_, _| text("")).await;
    let mut client = plain(&running).await;
    let hosts: [(&[&str], u16); 4] = [
        (&["A"], 200),
        (&["b"], 400),
        (&["a:80"], 400),
        (&["a", "a"], 400),
    ];
    for (hosts, expected) in hosts {
        let mut request = request().body(Full::default()).unwrap();
        for host in hosts {
            request
                .headers_mut()
                .append(header::HOST, HeaderValue::from_static(host));
        }
        assert_eq!(client.ask(request).await.unwrap().0, expected, "{hosts:?}");
    }
    for (uri, expected) in [
        ("http://a/ok|{}", 200),
        ("http://a.b./", 200),
        ("http://a../", 400),
        ("http://a..:80/", 400),
        ("http://a..b/", 400),
        ("http://a/b\\c", 400),
        ("http://a/\u{e9}", 400),
        ("http://a/\"", 400),
        ("http://u@a/", 400),
        ("http://a:b@c/", 400),
    ] {
        let found = client.get(uri).await;
        assert_eq!(found.unwrap().0, expected, "{uri}");
    }
}

#[tokio::test]
async fn a_value_goes_out_without_white_space_at_its_ends() {
    let running = serve(HttpLimits::default(), |head, _| {
        let cookie = head.header_str("cookie").unwrap_or("none").to_owned();
        let value = HeaderValue::from_static(" \tv w ");
        let reply = Reply::text(StatusCode::OK, cookie);
        Answer::Ready(reply.with(header::SERVER, value))
    })
    .await;
    let mut client = plain(&running).await;
    for (crumbs, joined) in [
        (&["a=1", ""][..], "a=1"),
        (&["", "a=1", "", "b=2"], "a=1; b=2"),
        (&["", ""], ""),
        (&["a=1; b=2"], "a=1; b=2"),
    ] {
        let mut request = request().body(Full::default()).unwrap();
        for crumb in crumbs {
            let crumb = HeaderValue::from_static(crumb);
            request.headers_mut().append(header::COOKIE, crumb);
        }
        let (status, headers, body) = client.ask(request).await.unwrap();
        assert_eq!((status, &*body), (200, joined), "{crumbs:?}");
        assert_eq!(headers["server"], "v w");
    }
}

#[tokio::test]
async fn a_value_with_white_space_at_an_end_is_refused() {
    let running = serve(HttpLimits::default(), |_, _| text("")).await;
    let mut client = plain(&running).await;
    for (value, expected) in [
        ("a b", 200),
        ("", 200),
        (" a", 400),
        ("a ", 400),
        ("\ta", 400),
        ("a\t", 400),
    ] {
        let request = request().header("x-value", value);
        let found = client.ask(request.body(Full::default()).unwrap()).await;
        assert_eq!(found.unwrap().0, expected, "{value:?}");
    }
}

#[tokio::test]
async fn a_service_sets_its_headers_and_none_of_the_connection() {
    let running = serve(HttpLimits::default(), |_, _| {
        let mut reply = Reply::text(StatusCode::OK, "hi");
        for name in [
            "connection",
            "keep-alive",
            "transfer-encoding",
            "upgrade",
            "content-length",
            "x-request-id",
            "x-mine",
        ] {
            reply = reply.with(name.parse().unwrap(), HeaderValue::from_static("9"));
        }
        Answer::Ready(reply)
    })
    .await;
    let (status, headers, body) = plain(&running).await.get("http://a/").await.unwrap();
    assert_eq!(
        (status, body.as_str(), &headers["x-mine"]),
        (200, "hi", &HeaderValue::from_static("9"))
    );
    assert_eq!(
        (
            headers["content-length"].as_bytes(),
            headers["x-request-id"].len()
        ),
        (&b"2"[..], 16)
    );
    assert_eq!(headers.get_all("date").iter().count(), 1);
    for gone in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn streams_are_answered_side_by_side() {
    const STREAMS: usize = 50;
    let barrier = Arc::new(Barrier::new(STREAMS));
    let running = serve(HttpLimits::default(), move |head, _| {
        let (barrier, path) = (Arc::clone(&barrier), head.path.to_owned());
        later(async move {
            // Nobody gets on before all are here.
            barrier.wait().await;
            Reply::text(StatusCode::OK, path)
        })
    })
    .await;
    let client = plain(&running).await;
    let asked = (0..STREAMS).map(|number| {
        let mut send = client.send.clone();
        async move {
            let request = Request::get(format!("http://a/{number}"))
                .body(Full::default())
                .unwrap();
            let body = send.send_request(request).await.unwrap().into_body();
            assert_eq!(
                body.collect().await.unwrap().to_bytes(),
                format!("/{number}")
            );
        }
    });
    soon(futures::future::join_all(asked)).await;
}

#[tokio::test]
async fn a_head_may_be_as_large_as_by_http_1_1_and_no_larger() {
    let limits = HttpLimits {
        head_bytes_max: 256 << 10,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, _| text("")).await;
    let mut client = plain(&running).await;
    for (bytes, status) in [(40 << 10, 200), (250 << 10, 200), (257 << 10, 431)] {
        let large = request().header("x", "y".repeat(bytes));
        let answer = client.ask(large.body(Full::default()).unwrap()).await;
        assert_eq!(answer.unwrap().0, status, "{bytes}");
    }
    for (bytes, status) in [(8100, 200), (8300, 414)] {
        let answer = client.get(&format!("http://a/{}", "x".repeat(bytes))).await;
        assert_eq!(answer.unwrap().0, status, "{bytes}");
    }
}

#[tokio::test]
async fn a_header_list_that_is_too_large_is_refused() {
    let limits = HttpLimits {
        headers_max: 20,
        head_bytes_max: 4000,
        ..HttpLimits::default()
    };
    let running = serve(limits, |_, _| text("")).await;
    let mut client = plain(&running).await;
    let large = request().header("x", "y".repeat(5000));
    assert_eq!(
        client
            .ask(large.body(Full::default()).unwrap())
            .await
            .unwrap()
            .0,
        431
    );
    let many = (0..21).fold(request(), |request, _| request.header("x", "y"));
    assert_eq!(
        client
            .ask(many.body(Full::default()).unwrap())
            .await
            .unwrap()
            .0,
        431
    );
    assert_eq!(client.get("http://a/").await.unwrap().0, 200);
}

#[tokio::test]
async fn cookies_in_pieces_are_one_line_to_the_service() {
    let running = serve(HttpLimits::default(), |head, _| {
        let lines = head
            .headers
            .iter()
            .filter(|field| field.name == "cookie")
            .count();
        text(format!(
            "{lines} {}",
            head.header_str("cookie").unwrap_or_default()
        ))
    })
    .await;
    let mut client = plain(&running).await;
    for (crumbs, expected) in [
        (&["a=1"][..], "1 a=1"),
        (&["a=1", "b=2", "c=3"], "1 a=1; b=2; c=3"),
    ] {
        let request = crumbs
            .iter()
            .fold(request(), |request, crumb| request.header("cookie", *crumb));
        let found = client
            .ask(request.body(Full::default()).unwrap())
            .await
            .unwrap();
        assert_eq!(found.2, expected);
    }
}

#[tokio::test]
async fn replies_without_a_body_have_none() {
    let running = serve(HttpLimits::default(), |head, _| match head.path {
        "/204" => Answer::Ready(Reply::text(StatusCode::NO_CONTENT, "never")),
        "/304" => Answer::Ready(Reply::text(StatusCode::NOT_MODIFIED, "never")),
        "/101" => Answer::Ready(Reply::empty(StatusCode::SWITCHING_PROTOCOLS)),
        _ => text("hello"),
    })
    .await;
    let mut client = plain(&running).await;
    for (method, path, expected) in [
        (Method::HEAD, "", (200, Some("5"))),
        (Method::GET, "204", (204, None)),
        (Method::GET, "304", (304, None)),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://a/{path}"));
        let (status, headers, body) = client
            .ask(request.body(Full::default()).unwrap())
            .await
            .unwrap();
        let length = headers
            .get("content-length")
            .map(|length| length.to_str().unwrap());
        assert_eq!(((status, length), body.as_str()), (expected, ""), "{path}");
    }
    assert_eq!(client.get("http://a/101").await.unwrap().0, 500);
}

#[tokio::test]
async fn a_stream_that_breaks_its_word_is_reset_and_the_others_go_on() {
    let running = serve(HttpLimits::default(), |head, _| {
        let items: Vec<Result<Frame<Bytes>, StreamError>> = match head.path {
            "/short" => vec![Ok(Frame::data("hel".into()))],
            "/long" => vec![Ok(Frame::data("hello, world".into()))],
            "/empty" => vec![],
            _ => vec![Ok(Frame::data("hello".into()))],
        };
        let body = StreamBody::new(futures::stream::iter(items));
        Answer::Ready(streamed(body).with(header::CONTENT_LENGTH, HeaderValue::from_static("5")))
    })
    .await;
    let mut client = plain(&running).await;
    for path in ["short", "long", "empty"] {
        let found = client.get(&format!("http://a/{path}")).await;
        // By us: the client would notice as well, but nobody is obliged to.
        let why = format!("{:?}", found.unwrap_err());
        assert!(why.contains("INTERNAL_ERROR, Remote"), "{path}: {why}");
        assert_eq!(client.get("http://a/").await.unwrap().2, "hello");
    }
}

#[tokio::test]
async fn a_service_that_panics_costs_its_stream_and_nothing_else() {
    let running = serve(HttpLimits::default(), |head, _| match head.path {
        "/now" => panic!("at once"),
        "/later" => later(async { panic!("later") }),
        "/body" => {
            let body = futures::stream::poll_fn(|_| panic!("in the body"));
            Answer::Ready(streamed(StreamBody::new(body)))
        }
        _ => text("fine"),
    })
    .await;
    let mut client = plain(&running).await;
    for path in ["now", "later"] {
        let (status, headers, body) = client.get(&format!("http://a/{path}")).await.unwrap();
        assert_eq!(status, 500);
        assert!(body.contains(headers["x-request-id"].to_str().unwrap()));
    }
    assert!(client.get("http://a/body").await.is_err());
    assert_eq!(client.get("http://a/").await.unwrap().2, "fine");
}

#[tokio::test]
async fn a_client_that_leaves_or_resets_ends_its_request() {
    for whole in [true, false] {
        let (dropped, gone) = Dropped::new();
        let dropped = Mutex::new(Some(dropped));
        let called = Arc::new(tokio::sync::Notify::new());
        let running = serve(HttpLimits::default(), {
            let called = Arc::clone(&called);
            move |_, _| {
                let (dropped, called) = (dropped.lock().take(), Arc::clone(&called));
                later(async move {
                    let _dropped = dropped;
                    called.notify_one();
                    std::future::pending::<Reply>().await
                })
            }
        })
        .await;
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let mut io = TcpStream::connect(running.at).await.unwrap();
        let wire =
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut far, &mut io).await });
        let mut client = client(near).await;
        let asked = client
            .send
            .send_request(request().body(Full::default()).unwrap());
        let asked = tokio::spawn(asked);
        soon(called.notified()).await;
        if whole {
            wire.abort();
        } else {
            asked.abort();
        }
        soon(gone).await.unwrap();
    }
}

#[tokio::test]
async fn megabytes_come_back_as_they_went() {
    let running = serve(HttpLimits::default(), |_, body| collect(body)).await;
    let body: String = (0..3_000_000)
        .map(|at: u32| char::from(b'a' + (at / 3 % 26) as u8))
        .collect();
    let request = Request::post("http://a/")
        .body(Full::from(body.clone()))
        .unwrap();
    let found = plain(&running).await.ask(request).await.unwrap();
    assert!(found.2 == body);
}
