//! Requests that a handler sends round in circles among nodes.

use protoplex_tests::{Connection, Fleet};

/// Every node relays to the role that the client names: an app to its own, if it says so.
const MANIFEST: &str = r#"
name = "loops"

[handlers.relay]
component = "OUT/relay.wasm"
grants.relay = ["role:app"]

[[routes]]
role = "proxy"
path = "/*"
handler = "relay"

[[routes]]
role = "app"
path = "/*"
handler = "relay"
"#;
/// A request passes so many app nodes at most, as `hops.rs` has it.
const HOPS_MAX: f64 = 4.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_goes_round_in_circles_is_a_508_soon() {
    let fleet = Fleet::start_text(MANIFEST, &["--nodes", "app=1"]).unwrap();
    let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
    let requests = "protoplex_requests_total";
    let before = fleet.metric("app", requests).await.unwrap();
    for lie in ["0", "-7", "4", "x"] {
        // What a client says of it is not believed.
        let origin = format!("https 192.0.2.1 4711 0123456789abcdef {lie}");
        let headers = [("x-upstream", "role:app"), ("protoplex-origin", &origin)];
        let answer = connection.request("GET", "/", &headers, b"").await.unwrap();
        assert_eq!(answer.status, 508, "{lie}: {}", answer.text());
    }
    let asked = fleet.metric("app", requests).await.unwrap() - before;
    assert_eq!(asked, 4.0 * HOPS_MAX);
    let loops = fleet.metric("app", "protoplex_hop_loops_total").await;
    assert_eq!(loops.unwrap(), 4.0);
    let circles = "a request goes round in circles among nodes";
    fleet.wait_for_log(circles).await;
}
