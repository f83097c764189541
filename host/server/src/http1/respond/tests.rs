//! Heads of replies: nothing of the service's that would contradict the framing.

use super::*;

fn asked(version: u8, method: &str) -> ReplyContext {
    ReplyContext {
        version,
        is_head: method == "HEAD",
        is_connect: method == "CONNECT",
        keep_alive: true,
        id: *b"0123456789abcdef",
    }
}

#[test]
fn a_service_sets_its_headers_and_none_of_the_connection() {
    let mut reply = Reply::text(StatusCode::OK, "hi");
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "content-length",
        "upgrade",
        "te",
        "trailer",
        "date",
        "x-request-id",
        "x-mine",
        "set-cookie",
        "set-cookie",
    ] {
        reply = reply.with(name.parse().unwrap(), HeaderValue::from_static("service"));
    }
    let mut out = Vec::new();
    head(
        &mut out,
        &reply,
        &asked(11, "GET"),
        ReplyFraming::Length(2),
        Some(2),
        Persistence::KeepAlive,
    );
    let text = String::from_utf8(out).unwrap();
    let mine: Vec<_> = text
        .lines()
        .filter(|line| line.ends_with(": service"))
        .collect();
    assert_eq!(
        mine,
        [
            "trailer: service",
            "x-mine: service",
            "set-cookie: service",
            "set-cookie: service"
        ]
    );
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n"));
    for line in ["content-length: 2", "x-request-id: 0123456789abcdef"] {
        assert_eq!(
            text.lines().filter(|found| *found == line).count(),
            1,
            "{line}"
        );
    }
    assert!(text.contains("\r\ndate: ") && !text.contains("connection: "));
}

#[test]
fn the_client_is_told_whether_the_connection_stays() {
    for (version, after, expected) in [
        (11, Persistence::KeepAlive, None),
        (11, Persistence::Close, Some("close")),
        (10, Persistence::KeepAlive, Some("keep-alive")),
        (10, Persistence::Close, Some("close")),
    ] {
        let mut out = Vec::new();
        let reply = Reply::empty(StatusCode::OK);
        head(
            &mut out,
            &reply,
            &asked(version, "GET"),
            ReplyFraming::None,
            Some(0),
            after,
        );
        let text = String::from_utf8(out).unwrap();
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix("connection: "));
        assert_eq!(found, expected, "{version} {after:?}");
    }
}

#[test]
fn lengths_are_written_in_decimal() {
    for number in [0, 7, 10, 65_536, u64::MAX] {
        assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
    }
}
