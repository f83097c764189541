//! `rollback`, while visitors come.

use super::SWAP;
use protoplex_tests::{Connection, Fleet, Load};
use serde_json::Value;

fn releases(fleet: &Fleet) -> Vec<Value> {
    let said = fleet.run(&["releases", "--json"]).unwrap();
    serde_json::from_str(&said.out).unwrap()
}

async fn greeting(fleet: &Fleet) -> String {
    let address = fleet.node("proxy").http;
    let answer = Connection::get_once(&address, "/").await.unwrap();
    answer.text().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_goes_to_the_build_before_or_to_a_named_one_and_fails_no_request() {
    let fleet = Fleet::start(SWAP).unwrap();
    for color in ["greeting=green", "greeting=red"] {
        assert_eq!(fleet.push(SWAP, &[color]).unwrap().code, 0);
    }
    let load = Load::start(&fleet.node("proxy").http, "/", 4, |response| {
        match (response.status, response.text().trim()) {
            (200, color @ ("blue" | "green" | "red")) => Ok(color.to_owned()),
            (status, text) => Err(format!("{status}: {text}")),
        }
    });
    let blue = releases(&fleet)[2]["build"].as_str().unwrap().to_owned();
    for (args, color) in [
        (&["rollback"][..], "green"),
        (&["rollback"], "red"),
        (&["rollback", &blue[..8]], "blue"),
        (&["rollback", "1.2"], "green"),
        (&["rollback", &blue], "blue"),
    ] {
        let said = tokio::task::block_in_place(|| fleet.run(args)).unwrap();
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        assert_eq!(greeting(&fleet).await, color, "{args:?}");
    }
    let report = load.finish().await;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.total() > 0);
    assert_eq!(releases(&fleet).len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_to_what_never_was_is_refused_and_nothing_changes() {
    let fleet = Fleet::start(SWAP).unwrap();
    let nowhere = "0".repeat(64);
    for (args, words) in [
        (&["rollback"][..], "there is nothing to go back to"),
        (
            &["rollback", "ffffffffff"],
            "no build's id starts with `ffffffffff`",
        ),
        (&["rollback", "9.9"], "no release is called so"),
        (&["rollback", &nowhere], "push it first"),
    ] {
        let said = fleet.run(args).unwrap();
        assert_eq!(said.code, 5, "{said:?}");
        assert!(said.err.contains(words), "{words:?} is not in {said:?}");
    }
    assert_eq!(releases(&fleet).len(), 1);
    assert_eq!(greeting(&fleet).await, "blue");
}
