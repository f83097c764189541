//! The time that a manifest gives to an app is the app's, whoever stands before it.

use protoplex_tests::Fleet;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A router before an app that has two minutes.
const PATIENT: &str = r#"
name = "patient"

[handlers.router]
component = "OUT/router.wasm"
isolation = "shared"
grants.relay = ["role:app"]
probe.path = "/old"

[handlers.app]
component = "OUT/bad-app.wasm"
limits.deadline_ms = 120000
probe.path = "/ok"

[[routes]]
role = "proxy"
path = "/*"
handler = "router"

[[routes]]
role = "app"
path = "/*"
handler = "app"
"#;
/// Longer than a node waits for a server of the fleet of which no manifest says anything: a minute.
const SLEEP: Duration = Duration::from_millis(62_000);
/// Less than what the app has.
const ANSWER_MAX: Duration = Duration::from_secs(110);

/// It waits a whole minute, because that minute is no setting of anybody's.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_has_behind_a_proxy_the_minutes_that_its_manifest_gives() {
    let fleet = Fleet::start_text(PATIENT, &[]).unwrap();
    let asked = Instant::now();
    let mut stream = TcpStream::connect(&fleet.node("proxy").http).await.unwrap();
    let request = format!(
        "GET /api/sleep?n={} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        SLEEP.as_millis()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(ANSWER_MAX, stream.read_to_string(&mut answer)).await;
    read.expect("it is answered").unwrap();
    let took = asked.elapsed();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{took:?}: {answer}");
    assert!(
        took >= SLEEP && answer.contains("slept"),
        "{took:?}: {answer}"
    );
}
