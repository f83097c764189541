//! Calls of gRPC: how long a server may think about its answer.

use crate::support::{Spoken, group, outbound, read, send, serve, text, upstream};
use http::Method;
use protoplex_http::Body;
use protoplex_upstream::{Outbound, RelayError, TimeoutOverrides};
use protoplex_wire::manifest::UpstreamProtocol;
use std::time::Duration;

/// Time that the upstream gives its server for the head of a response.
const FIRST_BYTE: Duration = Duration::from_millis(200);
/// Time that the server takes for it.
const THINKS: Duration = Duration::from_millis(900);

fn call(content_type: &str, timeout: Option<&str>) -> Outbound {
    let mut request = outbound(Method::POST, "/", Body::empty());
    request.takes_trailers = true;
    let mut lines = format!("content-type: {content_type}\r\n");
    if let Some(timeout) = timeout {
        lines += &format!("grpc-timeout: {timeout}\r\n");
    }
    request.head.extend_from_slice(lines.as_bytes());
    request
}

#[tokio::test]
async fn a_server_of_grpc_has_the_time_that_its_client_waits() {
    for (spoken, protocol) in [
        (Spoken::H2c(100), UpstreamProtocol::H2c),
        (Spoken::Http1, UpstreamProtocol::Http1),
    ] {
        let server = serve(spoken, |_| async {
            tokio::time::sleep(THINKS).await;
            text("awake")
        })
        .await;
        let mut upstream = upstream(protocol, &[&server]);
        upstream.first_byte_timeout_ms = FIRST_BYTE.as_millis() as u64;
        let group_of = group(&upstream);
        let reply = send(&group_of, call("application/grpc", Some("20S"))).await;
        assert_eq!(read(reply.unwrap()).await.unwrap(), "awake", "{protocol:?}");
        let handlers_word = TimeoutOverrides {
            first_byte: Some(FIRST_BYTE),
            ..TimeoutOverrides::default()
        };
        let mut decided = call("application/grpc", Some("20S"));
        decided.timeouts = handlers_word;
        for request in [
            call("application/grpc", None),
            // Less than the upstream's own: the client ends it by itself.
            call("application/grpc", Some("1m")),
            call("application/grpc", Some("for ever")),
            call("text/plain", Some("20S")),
            decided,
        ] {
            let head = String::from_utf8_lossy(&request.head).into_owned();
            let failed = send(&group_of, request).await.unwrap_err();
            let is_late = matches!(failed, RelayError::TooSlow { .. });
            assert!(is_late, "{protocol:?} {head}: {failed}");
        }
        // The time for everything is the operator's.
        upstream.total_timeout_ms = 2 * FIRST_BYTE.as_millis() as u64;
        let failed = send(&group(&upstream), call("application/grpc", Some("20S"))).await;
        assert!(
            matches!(failed, Err(RelayError::TooSlow { .. })),
            "{protocol:?}"
        );
    }
}
