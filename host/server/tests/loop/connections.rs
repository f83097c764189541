//! Keep-alive, pipelining, refusals.

use crate::support::{Client, collect, later, serve, text};
use http::StatusCode;
use protoplex_http::{Answer, Reply};
use protoplex_server::HttpLimits;

/// Says method, path and body, at once or a turn later.
fn say(head: &protoplex_http::Head<'_>, body: protoplex_http::Body) -> Answer {
    match head.path {
        "/body" => collect(body),
        "/later" => later(async {
            tokio::task::yield_now().await;
            Reply::text(StatusCode::OK, "later")
        }),
        path => text(format!("{} {path}", head.method)),
    }
}

const PIPELINE: &str = "\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
    POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
    GET /later HTTP/1.1\r\nHost: a\r\n\r\n\
    POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: u\r\n\r\n\
    POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET \
    GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

const ANSWERS: [&str; 6] = [
    "GET /1",
    "hello",
    "later",
    "abcde",
    "POST /unread",
    "GET /last",
];

async fn answers(client: &mut Client) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in ANSWERS {
        let read = client.read().await;
        assert_eq!(read.status, 200);
        bodies.push(read.body);
    }
    assert_eq!(client.rest().await, Ok(String::new()));
    bodies
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_in_any_pieces() {
    let running = serve(HttpLimits::default(), say).await;
    for cut in 0..=PIPELINE.len() {
        let mut client = Client::to(&running).await;
        client.send(&PIPELINE[..cut]).await;
        // Let the server see the first part alone.
        tokio::task::yield_now().await;
        client.send(&PIPELINE[cut..]).await;
        assert_eq!(answers(&mut client).await, ANSWERS, "cut at {cut}");
    }
    let mut client = Client::to(&running).await;
    for byte in PIPELINE.as_bytes() {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(answers(&mut client).await, ANSWERS);
}

#[tokio::test]
async fn hundreds_of_pipelined_requests_need_one_write() {
    let running = serve(HttpLimits::default(), say).await;
    let mut client = Client::to(&running).await;
    let requests: String = (0..500)
        .map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    client.send(requests).await;
    for number in 0..500 {
        assert_eq!(client.read().await.body, format!("GET /{number}"));
    }
}

#[tokio::test]
async fn every_reply_has_an_id_of_its_own() {
    let running = serve(HttpLimits::default(), say).await;
    let mut client = Client::to(&running).await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..3 {
        let read = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let id = read.header("x-request-id").unwrap().to_owned();
        assert!(id.len() == 16 && ids.insert(id));
    }
}

#[tokio::test]
async fn http_1_0_closes_unless_it_is_asked_to_stay() {
    let running = serve(HttpLimits::default(), say).await;
    let mut client = Client::to(&running).await;
    let read = client.ask("GET /a HTTP/1.0\r\n\r\n").await;
    assert_eq!(
        (read.body.as_str(), read.header("connection")),
        ("GET /a", Some("close"))
    );
    assert_eq!(client.rest().await, Ok(String::new()));
    let mut client = Client::to(&running).await;
    let kept = "GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
    for _ in 0..2 {
        let read = client.ask(kept).await;
        assert_eq!(read.header("connection"), Some("keep-alive"));
    }
}

#[tokio::test]
async fn a_refused_request_closes_after_the_replies_before_it() {
    let running = serve(HttpLimits::default(), say).await;
    for (bad, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            400,
        ),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ] {
        let mut client = Client::to(&running).await;
        let good = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
        client.send(format!("{good}{bad}{good}")).await;
        assert_eq!(client.read().await.body, "GET /good", "{bad:?}");
        let refused = client.read().await;
        assert_eq!(
            (refused.status, refused.header("connection")),
            (status, Some("close"))
        );
        assert!(
            refused
                .body
                .contains(refused.header("x-request-id").unwrap())
        );
        // The bytes behind it were not taken for a request, and did not reset the connection.
        assert_eq!(client.rest().await, Ok(String::new()), "{bad:?}");
        assert!(client.is_heard_out().await, "{bad:?}");
    }
}

#[tokio::test]
async fn one_empty_line_is_forgiven_and_no_more_however_they_come() {
    let running = serve(HttpLimits::default(), say).await;
    let mut client = Client::to(&running).await;
    for _ in 0..2 {
        client.send("\r\n").await;
        // Mostly the server sees each line alone; together they are refused as well.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    let read = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(read.status, 400);
}
