//! The largest head of a response: one measure, whatever protocol its server speaks.

use crate::support::{Spoken, ask, get, group, send, serve, text, upstream};
use http::HeaderValue;
use protoplex_http::{RESPONSE_HEAD_BYTES_MAX, RESPONSE_HEADERS_MAX};
use protoplex_upstream::RelayError;
use protoplex_wire::manifest::UpstreamProtocol;

/// Answers with so many header lines, a date among them, of which one has so many bytes, as the path says.
async fn answer(request: http::Request<hyper::body::Incoming>) -> crate::support::Answer {
    let asked = request.uri().path().trim_start_matches('/').to_owned();
    let (lines, bytes) = asked.split_once('/').unwrap();
    let mut answer = text("ok");
    for _ in 2..lines.parse().unwrap() {
        let line = HeaderValue::from_static("1");
        answer.headers_mut().append("x-line", line);
    }
    let long = "l".repeat(bytes.parse().unwrap());
    let long = HeaderValue::from_str(&long).unwrap();
    answer.headers_mut().append("x-long", long);
    answer
}

#[tokio::test]
async fn servers_of_both_protocols_may_answer_with_the_same_head() {
    for (protocol, spoken) in [
        (UpstreamProtocol::Http1, Spoken::Http1),
        (UpstreamProtocol::H2c, Spoken::H2c(100)),
    ] {
        let server = serve(spoken, answer).await;
        let group = group(&upstream(protocol, &[&server]));
        let (most, largest) = (RESPONSE_HEADERS_MAX, RESPONSE_HEAD_BYTES_MAX);
        for (lines, bytes) in [(200, 1), (most, 1), (2, 70 << 10), (2, largest - 100)] {
            let path = format!("/{lines}/{bytes}");
            assert_eq!(ask(&group, &path).await, "ok", "{protocol:?} {path}");
        }
        for (lines, bytes, why) in [
            (most + 1, 1, "RESPONSE_HEADERS_MAX"),
            (2, largest, "RESPONSE_HEAD_BYTES_MAX"),
        ] {
            let path = format!("/{lines}/{bytes}");
            let refused = send(&group, get(&path)).await.err();
            let Some(RelayError::Broken { cause, .. }) = refused else {
                panic!("{protocol:?} {path}: {refused:?}");
            };
            assert!(cause.contains(why), "{protocol:?} {path}: {cause}");
        }
    }
}
