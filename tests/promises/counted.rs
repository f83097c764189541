//! Counts of the meta port: requests by route, and what became of them at an upstream.

use protoplex_tests::{Connection, Fleet, Origin, read_head};
use std::collections::BTreeMap;
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// Two routes of one handler; nothing is at other paths.
const MANIFEST: &str = r#"
name = "counted"

[handlers.relay]
component = "OUT/relay.wasm"
grants.relay = ["origin"]

[upstreams.origin]
addresses = ["ADDRESS"]
first_byte_timeout_ms = 3000

[[routes]]
role = "proxy"
path = "/a/*"
handler = "relay"

[[routes]]
role = "proxy"
path = "/b/*"
handler = "relay"
"#;

/// Does what the path says, once a connection.
async fn misbehave(mut stream: TcpStream) {
    let Some(head) = read_head(&mut stream).await else {
        return;
    };
    let path = head.split(' ').nth(1).unwrap_or_default();
    let answer: &[u8] = match path.rsplit('/').next() {
        Some("reset") => return,
        Some("slow") => return std::future::pending().await,
        Some("rubbish") => b"rubbish\r\n\r\n",
        Some("busy") => b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        _ => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    };
    // The visitor hears of it.
    let _ = stream.write_all(answer).await;
}

/// The sum over all children of the samples of `name` that have all these labels.
fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
    let samples = text.lines().filter(|line| {
        line.split_once('{').is_some_and(|(other, rest)| {
            other == name && labels.iter().all(|label| rest.contains(label))
        })
    });
    let values: Vec<f64> = samples
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(!values.is_empty(), "no {name} {labels:?} in\n{text}");
    values.iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_route_and_failures_of_an_upstream_by_cause() {
    let origin = Origin::start(misbehave).await.unwrap();
    let manifest = MANIFEST.replace("ADDRESS", &origin.address);
    let fleet = Fleet::start_text(&manifest, &["--nodes", "app=0"]).unwrap();
    let proxy = fleet.node("proxy").http;
    for (method, path, status) in [
        ("GET", "/a/well", 200),
        ("GET", "/a/well", 200),
        ("POST", "/a/reset", 502),
        ("POST", "/a/rubbish", 502),
        ("POST", "/a/busy", 503),
        ("POST", "/b/slow", 504),
        ("GET", "/nowhere", 404),
    ] {
        let mut connection = Connection::open(&proxy).await.unwrap();
        let answer = connection.request(method, path, &[], b"").await.unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    let text = fleet.metrics_of(&fleet.node("proxy")).await.unwrap();
    let routed = |name: &str, route: &str, label| {
        let name = format!("protoplex_route_{name}");
        sum(&text, &name, &[("route", route), label])
    };
    for (route, code, count) in [
        ("/a/*", "2xx", 2.0),
        ("/a/*", "5xx", 3.0),
        ("/a/*", "4xx", 0.0),
        ("/b/*", "5xx", 1.0),
        ("(none)", "4xx", 1.0),
        ("(other)", "2xx", 0.0),
    ] {
        let label = ("code", code);
        assert_eq!(
            routed("requests_total", route, label),
            count,
            "{route} {code}"
        );
    }
    // The slow one took three seconds: above 2, below 10.
    for (route, bound, count) in [
        ("/b/*", "2", 0.0),
        ("/b/*", "10", 1.0),
        ("/b/*", "+Inf", 1.0),
        ("/a/*", "+Inf", 5.0),
    ] {
        let label = ("le", bound);
        assert_eq!(
            routed("seconds_bucket", route, label),
            count,
            "{route} {bound}"
        );
    }
    let took = sum(&text, "protoplex_route_seconds_sum", &[("route", "/b/*")]);
    assert!((2.9..10.0).contains(&took), "{took}");
    let of_origin = |name: &str, label: Option<(&str, &str)>| {
        let labels: Vec<_> = label.into_iter().chain([("upstream", "origin")]).collect();
        sum(&text, &format!("protoplex_upstream_{name}"), &labels)
    };
    assert_eq!(of_origin("requests_total", None), 6.0);
    for (cause, count) in [
        ("reset", 1.0),
        ("malformed", 1.0),
        ("status", 1.0),
        ("timeout", 1.0),
        ("connect", 0.0),
    ] {
        let label = Some(("cause", cause));
        assert_eq!(of_origin("failures_total", label), count, "{cause}");
    }
    assert_eq!(of_origin("requests", Some(("state", "in-flight"))), 0.0);
    assert!(of_origin("servers", Some(("state", "well"))) >= 1.0);
    // It is gone.
    drop(origin);
    let gone = Connection::get_once(&proxy, "/a/well").await.unwrap();
    assert_eq!(gone.status, 502);
    let text = fleet.metrics_of(&fleet.node("proxy")).await.unwrap();
    let labels = [("upstream", "origin"), ("cause", "connect")];
    let failed = sum(&text, "protoplex_upstream_failures_total", &labels);
    assert_eq!(failed, 1.0);
    for family in ["protoplex_route_seconds", "protoplex_upstream_requests"] {
        assert_eq!(text.matches(&format!("# TYPE {family} ")).count(), 1);
    }
    assert_one_meaning(&text);
}

/// Samples of one name have the same labels: two families of one name would be added up as if they were one.
fn assert_one_meaning(text: &str) {
    let mut labels_of = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        // Values have no quotes here, so each label name stands before `="`.
        let parts = rest.split("=\"").map(|part| part.rsplit(['{', ',']).next());
        let labels: Vec<_> = parts.collect();
        let labels = labels[..labels.len() - 1].to_vec();
        let known = labels_of.entry(name).or_insert_with(|| labels.clone());
        assert_eq!(known, &labels, "{name}");
    }
}
