//! Framing for every kind of body, and statuses that end a request.

use super::*;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};

fn asked(version: u8, method: &str) -> ReplyContext {
    ReplyContext {
        version,
        is_head: method == "HEAD",
        is_connect: method == "CONNECT",
        keep_alive: true,
        id: *b"0123456789abcdef",
    }
}

fn stream(bytes: Option<&'static str>) -> ReplyBody {
    let never = |never| match never {};
    ReplyBody::Stream(match bytes {
        // Its length is known.
        Some(bytes) => Full::new(Bytes::from_static(bytes.as_bytes()))
            .map_err(never)
            .boxed_unsync(),
        None => http_body_util::StreamBody::new(futures::stream::empty()).boxed_unsync(),
    })
}

fn reply(status: u16, body: ReplyBody) -> Reply {
    let mut reply = Reply::empty(StatusCode::from_u16(status).unwrap());
    reply.body = body;
    reply
}

#[test]
fn every_body_is_framed_so_that_its_end_shows() {
    use ReplyFraming::{Chunked, Close, Length, None as Nothing};
    let full = || ReplyBody::Full(Bytes::from_static(b"hello"));
    let absent = || ReplyBody::Absent { bytes: Some(9) };
    for (method, version, status, body, expected) in [
        ("GET", 11, 200, ReplyBody::Empty, (Nothing, Some(0))),
        ("GET", 11, 200, full(), (Length(5), Some(5))),
        ("GET", 11, 200, stream(Some("abc")), (Length(3), Some(3))),
        ("GET", 11, 200, stream(None), (Chunked, None)),
        ("GET", 10, 200, stream(None), (Close, None)),
        ("GET", 10, 200, stream(Some("abc")), (Length(3), Some(3))),
        ("GET", 11, 204, full(), (Nothing, None)),
        ("GET", 11, 204, stream(None), (Nothing, None)),
        ("GET", 11, 304, ReplyBody::Empty, (Nothing, None)),
        ("GET", 11, 304, absent(), (Nothing, Some(9))),
        ("GET", 11, 304, full(), (Nothing, None)),
        ("GET", 11, 304, stream(Some("abc")), (Nothing, None)),
        ("GET", 11, 304, stream(None), (Nothing, None)),
        ("HEAD", 11, 200, full(), (Nothing, Some(5))),
        ("HEAD", 11, 200, absent(), (Nothing, Some(9))),
        ("HEAD", 11, 200, stream(Some("abc")), (Nothing, Some(3))),
        ("HEAD", 10, 200, stream(None), (Nothing, None)),
        // A service's mistake must not make the client wait for nine bytes of the next reply.
        ("GET", 11, 200, absent(), (Nothing, Some(0))),
    ] {
        let reply = reply(status, body);
        let found = framing(&reply, &asked(version, method));
        assert_eq!(found, expected, "{method} {version} {reply:?}");
    }
}

#[test]
fn a_stream_may_announce_its_length() {
    for (announced, expected) in [("12", Some(12)), ("x", None), ("", None)] {
        let value = HeaderValue::from_static(announced);
        let reply = reply(200, stream(None)).with(header::CONTENT_LENGTH, value);
        assert_eq!(
            framing(&reply, &asked(11, "GET")).1,
            expected,
            "{announced}"
        );
    }
    let empty: Empty<Bytes> = Empty::new();
    let body = ReplyBody::Stream(empty.map_err(|never| match never {}).boxed_unsync());
    assert_eq!(framing(&reply(200, body), &asked(11, "GET")).1, Some(0));
}

#[test]
fn an_interim_status_never_ends_a_request() {
    for status in [100, 101, 103, 199] {
        let found = conclusive(reply(status, ReplyBody::Empty), &asked(11, "GET"));
        assert_eq!(
            (found.status.as_u16(), found.close),
            (500, true),
            "{status}"
        );
    }
    let found = conclusive(reply(204, ReplyBody::Empty), &asked(11, "GET"));
    assert_eq!((found.status.as_u16(), found.close), (204, false));
}
