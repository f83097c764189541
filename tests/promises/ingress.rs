//! Settings for clients, from a node's configuration to its children.

use protoplex_tests::{Connection, Fleet, Https};
use serde_json::Value;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

const SAMPLE: &str = "builds/sample.toml";
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again until it finds something.
async fn found<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancers_word_reaches_handlers_the_access_log_and_the_metrics() {
    let believing = r#"{"proxy_protocol_from":["127.0.0.0/8"]}"#;
    let fleet = Fleet::start_with_ingress(SAMPLE, believing, &["--access-log"]).unwrap();
    let proxy = fleet.node("proxy");
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    connection
        .write(b"PROXY TCP4 192.0.2.9 10.0.0.1 4711 80\r\n")
        .await
        .unwrap();
    let answer = connection.get("/whoami").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("192.0.2.9"), "{}", answer.text());
    let id = answer.header("x-request-id").unwrap();
    let line = fleet.access_line("proxy", id).await;
    assert_eq!(
        (&line["client"], &line["path"], &line["status"]),
        (&"192.0.2.9".into(), &"/whoami".into(), &200.into())
    );
    assert!(
        line["handler"]
            .as_str()
            .is_some_and(|handler| !handler.is_empty()),
        "{line}"
    );
    assert!(Connection::get_once(&proxy.http, "/whoami").await.is_err());
    fleet.wait_for_refusal("proxy", "proxy-header").await;
}

/// A certificate that a node is configured with, and its key.
fn pair(fleet: &Fleet, node: &str, cert: &str, key: &str) -> (PathBuf, PathBuf) {
    let file = fleet.data().join("nodes").join(node).join("node.json");
    let config: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let path = |key: &str| PathBuf::from(config[key].as_str().unwrap());
    (path(cert), path(key))
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_taken_without_a_restart_and_bad_ones_change_nothing() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let proxy = fleet.node("proxy");
    let (cert, key) = pair(&fleet, &proxy.name, "tls_cert", "tls_key");
    // Of the same authority and for the same address: good enough for a visitor.
    let (other_cert, other_key) = pair(&fleet, &proxy.name, "cert", "key");
    let said = async |what: &str| {
        let children = std::thread::available_parallelism()
            .map_or(2, usize::from)
            .max(2);
        found(what, async || {
            let log = fleet.meta("proxy", "/logs?lines=2000").await.unwrap();
            (log.matches(what).count() >= children).then_some(())
        })
        .await;
    };
    let (whole, whole_key) = (
        std::fs::read(&other_cert).unwrap(),
        std::fs::read(&other_key).unwrap(),
    );
    std::fs::write(&cert, &whole[..whole.len() / 2]).unwrap();
    // By the parent, which then hands over nothing new.
    let refusal = "new certificates cannot be used";
    found(refusal, async || {
        fleet.logs_of(&proxy.name).contains(refusal).then_some(())
    })
    .await;
    let https = Https::new(&fleet, "proxy", false).unwrap();
    assert_eq!(
        https.request("GET", "/", vec![]).await.unwrap().1.status,
        200
    );
    std::fs::write(&cert, &whole).unwrap();
    std::fs::write(&key, &whole_key).unwrap();
    said("new certificates are used").await;
    let https = Https::new(&fleet, "proxy", true).unwrap();
    assert_eq!(
        https.request("GET", "/", vec![]).await.unwrap().1.status,
        200
    );
}
