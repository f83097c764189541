//! Heads as servers write them: what frames the body, what is refused, what is passed on.

use super::*;

fn read(text: &str) -> Result<Response, &'static str> {
    parse(text.as_bytes(), ResponseContext::default()).map(|read| read.expect("a whole head").0)
}

#[test]
fn what_frames_a_body_is_what_the_standard_says() {
    for (head, framing, keep_alive) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
            Framing::Length(5),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n",
            Framing::None,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n",
            Framing::Chunked,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: , chunked ,\r\n",
            Framing::Chunked,
            true,
        ),
        ("HTTP/1.1 200 OK\r\n", Framing::Close, false),
        ("HTTP/1.2 200 OK\r\n", Framing::Close, false),
        (
            "HTTP/1.9 200 OK\r\ncontent-length: 5\r\n",
            Framing::Length(5),
            true,
        ),
        (
            "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n",
            Framing::Length(5),
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n",
            Framing::Length(5),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n",
            Framing::Length(5),
            false,
        ),
        (
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n",
            Framing::None,
            true,
        ),
        ("HTTP/1.1 204 No Content\r\n", Framing::None, true),
        (
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n",
            Framing::None,
            true,
        ),
        (
            "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n",
            Framing::None,
            false,
        ),
        (
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n",
            Framing::None,
            false,
        ),
        (
            "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n",
            Framing::None,
            false,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\ntransfer-encoding: chunked\r\n",
            Framing::None,
            false,
        ),
        (
            "HTTP/1.1 205 Reset Content\r\ncontent-length: 2\r\n",
            Framing::Length(2),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n",
            Framing::Length(5),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n",
            Framing::Length(5),
            true,
        ),
    ] {
        let response = read(&format!("{head}\r\n")).expect(head);
        assert_eq!(
            (response.framing, response.keep_alive),
            (framing, keep_alive),
            "{head}"
        );
    }
}

#[test]
fn a_head_that_reads_in_two_ways_is_refused() {
    for (head, why) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n",
            "two values",
        ),
        (
            "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\ncontent-length: 6\r\n",
            "two values",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n", "two values"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5,\r\n", "no number"),
        ("HTTP/1.1 200 OK\r\ncontent-length:\r\n", "no number"),
        ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n", "no number"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n",
            "both",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n",
            "not `chunked`",
        ),
        (
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n",
            "HTTP/1.0",
        ),
        (
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: gzip\r\n",
            "not `chunked`",
        ),
        (
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n",
            "both",
        ),
        ("HTTP/1.1 200 OK\nx: y\r\n", "LF alone"),
        ("HTTP/1.1 200 OK\r\nx: y\n", "LF alone"),
        ("HTTP/1.1 200 OK\r\nx : y\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\n folded: y\r\n", "malformed"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: ,\r\n",
            "not `chunked`",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n",
            "not `chunked`",
        ),
        ("HTTP/2 200 OK\r\n", "malformed"),
        ("HTTP/1.10 200 OK\r\n", "malformed"),
        ("HTTP/1.2x 200 OK\r\n", "malformed"),
        ("HTTP/1.1 99 No\r\n", "malformed"),
    ] {
        let error = read(&format!("{head}\r\n")).expect_err(head);
        assert!(error.contains(why), "{head}: {error}");
    }
}

#[test]
fn the_protocols_that_a_426_asks_for_are_kept() {
    let lines = "upgrade: websocket\r\nupgrade: x, y\r\n\r\n";
    for (status, protocols) in [("426 No", "websocket, x, y"), ("101 Yes", "x, y")] {
        let response = read(&format!("HTTP/1.1 {status}\r\n{lines}")).expect("a head");
        assert_eq!(response.upgrade.as_deref(), Some(protocols));
        assert_eq!(response.lines.as_bytes(), b"");
    }
}

#[test]
fn what_belongs_to_the_connection_is_not_passed_on() {
    let response = read(
        "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\ndate: now\r\n\
         x-request-id: theirs\r\ncontent-length: 1\r\ntrailer: x-sum\r\nx-end: 2\r\n\r\n",
    )
    .expect("a head");
    assert_eq!(
        response.lines.as_bytes(),
        b"date: now\r\ntrailer: x-sum\r\nx-end: 2\r\n"
    );
    assert!(response.dated);
}
#[test]
fn what_any_line_of_connection_names_is_not_passed_on() {
    for (first, second) in [("x-hop", "keep-alive"), ("close", "x-hop")] {
        let response = read(&format!(
            "HTTP/1.1 200 OK\r\nconnection: {first}\r\nconnection: {second}\r\nx-hop: 1\r\n\
             content-length: 1\r\nx-end: 2\r\n\r\n"
        ))
        .expect("a head");
        assert_eq!(response.lines.as_bytes(), b"x-end: 2\r\n", "{first}");
        assert_eq!(response.keep_alive, first != "close");
    }
}
