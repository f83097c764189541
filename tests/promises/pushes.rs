//! A push with a fault is refused or reverted, with a message that helps; and clients notice nothing.

use protoplex_fleet::FleetIdentity;
use protoplex_seed_client::SeedClient;
use protoplex_tests::{Connection, Fleet, Pushed, said};
use protoplex_wire::status::ReleaseRecord;

mod malformed;
mod orders;
mod probes;
mod refused;
mod warm_up;

const SWAP: &str = "tests/builds/swap.toml";

/// Body that a client gets.
async fn greeting(fleet: &Fleet) -> String {
    let address = fleet.node("proxy").http;
    let answer = Connection::get_once(&address, "/").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().trim().to_owned()
}

fn releases(fleet: &Fleet) -> Vec<ReleaseRecord> {
    let said = fleet.run(&["releases", "--json"]).unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

/// `protoplex ARGS`, without `--data`.
fn plain(fleet: &Fleet, args: &[&str]) -> Pushed {
    said(&mut fleet.command(args).unwrap()).unwrap()
}

/// A client with the operator's certificate.
fn client(fleet: &Fleet) -> SeedClient {
    let text = |key: &str| fleet.info[key].as_str().unwrap().to_owned();
    let identity = FleetIdentity {
        ca: text("ca").into(),
        certificate: text("cert").into(),
        key: text("key").into(),
    };
    SeedClient::new(&text("seed"), &identity).unwrap()
}

#[track_caller]
fn assert_said(pushed: &Pushed, code: i32, words: &[&str]) {
    assert_eq!(pushed.code, code, "{pushed:?}");
    for word in words {
        assert!(pushed.err.contains(word), "{word:?} is not in {pushed:?}");
    }
}
