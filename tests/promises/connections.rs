//! Connections of the real program: TLS, HTTP/2, drains, and the ports beside.

use protoplex_tests::{Connection, Fleet, Https, signal};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const SAMPLE: &str = "builds/sample.toml";
const STREAMING: &str = "tests/builds/streaming.toml";

#[tokio::test(flavor = "multi_thread")]
async fn the_https_port_speaks_both_versions_under_a_certificate_of_the_fleets_authority() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let body: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    for (http2, version) in [
        (false, http::Version::HTTP_11),
        (true, http::Version::HTTP_2),
    ] {
        let https = Https::new(&fleet, "proxy", http2).unwrap();
        let (spoken, page) = https.request("GET", "/", vec![]).await.unwrap();
        assert_eq!((spoken, page.status), (version, 200));
        assert!(page.header("x-request-id").is_some());
        let (_, echoed) = https
            .request("POST", "/api/echo", body.clone())
            .await
            .unwrap();
        assert_eq!((echoed.status, echoed.body.len()), (200, body.len()));
        assert!(echoed.body == body);
        let (_, who) = https.request("GET", "/whoami", vec![]).await.unwrap();
        assert!(who.text().contains("127.0.0.1"), "{}", who.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_http2_connection_go_on_beside_each_other_and_through_a_swap() {
    let fleet = Fleet::start(STREAMING).unwrap();
    let https = Https::new(&fleet, "app", true).unwrap();
    // Opens the one connection.
    https.request("GET", "/", vec![]).await.unwrap();
    let started = Instant::now();
    let streams: Vec<_> = (0..20)
        .map(|_| {
            let https = https.clone();
            tokio::spawn(async move { https.request("GET", "/api/stream", vec![]).await })
        })
        .collect();
    let pushed = tokio::task::block_in_place(|| fleet.push("tests/builds/swap.toml", &[])).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    for stream in streams {
        let (_, answer) = stream.await.unwrap().unwrap();
        assert_eq!(answer.text().lines().count(), 10, "{}", answer.text());
    }
    // One after another they would take 20 s.
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_port_says_status_only_and_without_a_certificate() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let health = fleet.node("proxy").health;
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 404),
        ("/", 404),
    ] {
        let answer = Connection::get_once(&health, path).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_meta_port_tells_members_of_the_fleet_and_nobody_else() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let proxy = fleet.node("proxy").http;
    for path in ["/hello", "/", "/nope", "/api/hello"] {
        Connection::get_once(&proxy, path).await.unwrap();
    }
    for (name, expected) in [
        ("protoplex_requests_total", 4.0),
        ("protoplex_children_serving", 2.0),
        ("protoplex_swaps_total", 2.0),
    ] {
        assert_eq!(
            fleet.metric("proxy", name).await.unwrap(),
            expected,
            "{name}"
        );
    }
    let metrics = fleet.metrics_of(&fleet.node("proxy")).await.unwrap();
    for sample in [
        "handler=\"router\",decision=\"respond\"",
        "handler=\"router\",decision=\"asset\"",
        "handler=\"router\",decision=\"relay\"",
        "protoplex_pool_instances",
        "protoplex_build_info{",
    ] {
        assert!(metrics.contains(sample), "{sample} is not in\n{metrics}");
    }
    let status: serde_json::Value =
        serde_json::from_str(&fleet.meta("proxy", "/status").await.unwrap()).unwrap();
    assert_eq!(status["children"].as_array().unwrap().len(), 2, "{status}");
    let log = fleet.meta("proxy", "/logs?lines=5").await.unwrap();
    assert!(log.contains("a child started"), "{log}");

    let meta = fleet.info["nodes"][0]["meta"].as_str().unwrap();
    let mut stranger = Connection::open(meta.split("//").nth(1).unwrap())
        .await
        .unwrap();
    stranger
        .write(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let answer = stranger.response(false).await;
    assert!(
        answer.is_err(),
        "without TLS there is no answer: {answer:?}"
    );
    let nobody = Https::to_port(&fleet, "proxy", "meta", false).unwrap();
    let answer = nobody.request("GET", "/metrics", vec![]).await;
    assert!(
        answer.is_err(),
        "without a certificate there is no answer: {answer:?}"
    );
}

/// Starts a request that lasts until its body has come, then has `end` begin the drain of the app node.
async fn drains(end: impl AsyncFnOnce(&Fleet)) {
    // A minute, so that the request ends as it should and not by the drain's deadline.
    let fleet = Fleet::start_with(STREAMING, &["--drain-timeout", "60"]).unwrap();
    let node = fleet.node("app");
    let app = node.http.clone();
    let mut idle = Connection::open(&app).await.unwrap();
    assert_eq!(idle.get("/").await.unwrap().status, 200);
    let mut slow = Connection::open(&app).await.unwrap();
    let half = b"POST /api/count HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf";
    slow.write(half).await.unwrap();
    let in_flight = |in_flight| in_flight >= 1.0;
    fleet
        .wait_for_metric("app", "protoplex_in_flight", in_flight)
        .await;
    end(&fleet).await;
    assert!(idle.closed().await.unwrap(), "an idle connection is closed");
    let health = Connection::get_once(&node.health, "/readyz").await;
    assert!(health.is_ok_and(|answer| answer.status == 503));
    // The drain waits for what is in flight.
    slow.write(b"done").await.unwrap();
    let answer = slow.response(false).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains(r#""bytes":8,"#), "{}", answer.text());
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(slow.closed().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_is_in_flight_and_closes_the_rest() {
    drains(async |fleet| signal(fleet.node("app").pid, Signal::TERM).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_drains_a_node_by_its_meta_port() {
    drains(async |fleet| {
        let meta = fleet.info["nodes"][1]["meta"].as_str().unwrap();
        let name = fleet.info["nodes"][1]["name"].as_str().unwrap();
        let client = fleet.client().unwrap().node(name).unwrap();
        let url = format!("{meta}/drain");
        let answer = client.open(http::Method::POST, &url).await.unwrap();
        assert_eq!(answer.status(), 202);
    })
    .await;
}
