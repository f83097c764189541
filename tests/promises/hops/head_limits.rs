//! A head within the limits of the node where its client comes in passes every hop behind.

use super::{SAMPLE, raw};
use protoplex_tests::{Connection, Fleet};

/// A GET with that many header lines, `Host` among them, and a cookie.
fn large(path: &str, lines: usize, cookie_bytes: usize) -> String {
    let more: String = (2..lines).map(|line| format!("x-{line}: 1\r\n")).collect();
    let cookie = "c".repeat(cookie_bytes);
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n{more}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_a_proxy_takes_is_taken_by_the_node_behind() {
    let raised = r#"{"limits":{"head_bytes_max":262144}}"#;
    for (ingress, cookies) in [
        ("{}", [(31 << 10, 200), (33 << 10, 431)]),
        (raised, [(250 << 10, 200), (257 << 10, 431)]),
    ] {
        let fleet = Fleet::start_with_ingress(SAMPLE, ingress, &[]).unwrap();
        let mut asked = vec![(94, 1, 200), (100, 1, 200), (101, 1, 431)];
        asked.extend(cookies.map(|(bytes, status)| (2, bytes, status)));
        for (lines, cookie_bytes, status) in asked {
            for path in ["/hello", "/api/hello"] {
                let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
                let request = large(path, lines, cookie_bytes);
                connection.write(request.as_bytes()).await.unwrap();
                let answer = connection.response(false).await.unwrap();
                assert_eq!(
                    answer.status, status,
                    "{path}: {lines} lines, {cookie_bytes} bytes"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn raised_limits_of_lines_hold_on_every_hop() {
    let raised = r#"{"limits":{"head_bytes_max":262144,"line_bytes_max":61440,"headers_max":256}}"#;
    let fleet = Fleet::start_with_ingress(SAMPLE, raised, &[]).unwrap();
    for (query_bytes, lines, status) in [
        (59 << 10, 3, 200),
        (61 << 10, 3, 414),
        (1, 256, 200),
        (1, 257, 431),
        (59 << 10, 256, 200),
    ] {
        for path in ["/hello", "/api/hello"] {
            let query = "q".repeat(query_bytes);
            let request = large(&format!("{path}?{query}"), lines, 1);
            let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
            connection.write(request.as_bytes()).await.unwrap();
            let answer = connection.response(false).await.unwrap();
            let asked = format!("{path}: {query_bytes} bytes, {lines} lines");
            assert_eq!(answer.status, status, "{asked}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_node_of_the_fleet_is_let_beyond_the_limits_of_a_head() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let lie = "protoplex-build: 0:0\r\nprotoplex-origin: http 6.6.6.6 1 0000000000000000\r\n";
    for role in ["proxy", "app"] {
        let request = large("/api/hello", 120, 1).replacen("Host:", &format!("{lie}Host:"), 1);
        let answer = raw(&fleet.node(role).http, request).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{role}: {answer}");
    }
}
