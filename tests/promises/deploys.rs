//! Guarantees of a push (DESIGN.md, section 5).

use protoplex_tests::{Connection, Fleet, Load, LoadReport, Response};

const SWAP: &str = "tests/builds/swap.toml";
const CONNECTIONS: usize = 16;

/// The body of `hello` is the setting `greeting`; both builds answer with their own.
fn greeting(response: &Response) -> Result<String, String> {
    let text = response.text();
    match (response.status, text.trim()) {
        (200, "blue" | "green") => Ok(text.trim().to_owned()),
        (status, text) => Err(format!("{status}: {text}")),
    }
}

fn assert_no_failure(report: &LoadReport) {
    assert!(report.failures.is_empty(), "{} failed: {:?}", report.failures.len(), &report.failures[..report.failures.len().min(5)]);
    assert!(report.total() > 0, "nothing was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_under_load_fails_no_request_and_every_answer_is_wholly_of_one_build() {
    let fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    let load = Load::start(&proxy.http, "/", CONNECTIONS, greeting);
    for round in 0..100 {
        let color = if round % 2 == 0 { "greeting=green" } else { "greeting=blue" };
        let pushed = tokio::task::block_in_place(|| fleet.push(SWAP, &[color])).unwrap();
        assert_eq!(pushed.code, 0, "{pushed:?}\n{}", fleet.logs());
    }
    let report = load.finish().await;
    assert_no_failure(&report);
    assert!(report.seen["blue"] > 0 && report.seen["green"] > 0, "{:?}", report.seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_ack_no_answer_is_of_the_old_build() {
    let fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    assert_eq!(connection.get("/").await.unwrap().text().trim(), "blue");
    assert_eq!(fleet.push(SWAP, &["greeting=green"]).unwrap().code, 0);
    // The same connection: a switch closes none.
    assert_eq!(connection.get("/").await.unwrap().text().trim(), "green");
    assert_eq!(fleet.run(&["rollback"]).unwrap().code, 0);
    assert_eq!(connection.get("/").await.unwrap().text().trim(), "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_its_warm_up_takes_no_traffic_and_says_why() {
    let fleet = Fleet::start(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    let pushed = fleet.push("tests/builds/broken-probe.toml", &[]).unwrap();
    assert_eq!(pushed.code, 3, "{pushed:?}");
    assert!(format!("{}{}", pushed.out, pushed.err).contains("warm-up"), "{pushed:?}");
    assert_eq!(Connection::get_once(&proxy.http, "/").await.unwrap().text().trim(), "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_below_one_that_a_node_has_held_is_refused_for_ever() {
    let mut fleet = Fleet::start(SWAP).unwrap();
    assert_eq!(fleet.push(SWAP, &["greeting=green"]).unwrap().code, 0);
    fleet.restart(SWAP).unwrap();
    let proxy = fleet.node("proxy");
    assert_eq!(Connection::get_once(&proxy.http, "/").await.unwrap().text().trim(), "green");
    let releases = fleet.run(&["releases", "--json"]).unwrap();
    assert_eq!(releases.code, 0, "{releases:?}");
}
