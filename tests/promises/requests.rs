//! Requests get their answers.

use protoplex_tests::{Connection, Fleet, Socket};

const SAMPLE: &str = "builds/sample.toml";

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_build_answers_on_both_roles() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    for role in ["proxy", "app"] {
        let response = Connection::get_once(&fleet.node(role).http, "/")
            .await
            .unwrap();
        assert_eq!(response.status, 200, "{role}: {}", response.text());
        assert!(response.header("x-request-id").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_streams_through_proxy_and_app_unchanged() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let body: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
    let echoed = connection
        .request("POST", "/api/echo", &[], &body)
        .await
        .unwrap();
    assert_eq!(echoed.status, 200);
    assert!(
        echoed.body == body,
        "{} bytes came back of {}",
        echoed.body.len(),
        body.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ambiguous_request_is_refused_and_its_connection_closed() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let address = fleet.node("proxy").http;
    for (request, status) in [
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
    ] {
        let mut connection = Connection::open(&address).await.unwrap();
        connection.write(request.as_bytes()).await.unwrap();
        let response = connection.response(false).await.unwrap();
        // A body that turns out malformed may have been answered by then, but nothing follows it.
        if !request.ends_with("zz\r\n") {
            assert_eq!(response.status, status, "{request:?}");
        }
        assert!(connection.closed().await.unwrap(), "{request:?}");
    }
    let mut connection = Connection::open(&address).await.unwrap();
    let long = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "y".repeat(100_000)
    );
    let _ = connection.write(long.as_bytes()).await;
    assert_eq!(connection.response(false).await.unwrap().status, 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_answers_conditions_ranges_and_codings() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
    let whole = connection.get("/style.css").await.unwrap();
    assert_eq!(whole.status, 200);
    let etag = whole.header("etag").unwrap().to_owned();
    let again = connection
        .request("GET", "/style.css", &[("if-none-match", &etag)], b"")
        .await
        .unwrap();
    assert_eq!(again.status, 304);
    let part = connection
        .request("GET", "/style.css", &[("range", "bytes=2-5")], b"")
        .await
        .unwrap();
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[2..6]));
    let coded = connection
        .request("GET", "/style.css", &[("accept-encoding", "gzip")], b"")
        .await
        .unwrap();
    assert_eq!(coded.header("content-encoding"), Some("gzip"));
    assert!(coded.body.len() < whole.body.len());
    let head = connection
        .request("HEAD", "/style.css", &[], b"")
        .await
        .unwrap();
    assert_eq!(
        head.header("content-length"),
        whole.header("content-length")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_is_a_string_in_json_whatever_stands_in_it() {
    let fleet = Fleet::start_with(SAMPLE, &["--nodes", "live=1"]).unwrap();
    let said = "a\"b\\c";
    let pushed = fleet.push(SAMPLE, &[&format!("greeting={said}")]).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    let proxy = fleet.node("proxy").http;
    let hello = Connection::get_once(&proxy, "/hello").await.unwrap();
    let mut board = Socket::open(&proxy, "/board?name=ann").await.unwrap();
    for text in [hello.text(), board.ask("how often?").await.unwrap()] {
        let json: serde_json::Value = serde_json::from_str(&text).expect(&text);
        assert_eq!(json["greeting"], said, "{text}");
    }
}
