//! The cases of the Autobahn test suite, against a handler that sends back what comes: on the live node itself, and
//! through a proxy.

use super::swaps::Variant;
use protoplex_tests::{Fleet, repository};
use std::{collections::BTreeMap, path::Path, process::Command};

/// The largest message of the suite has 16 MiB, and its echo waits whole.
const LIMITS: [(&str, &str); 2] = [
    (
        "received_bytes_max = 1048576",
        "received_bytes_max = 16777216\nqueue_bytes_max = 67108864",
    ),
    ("ping_ms = 1000", "ping_ms = 60000"),
];
/// Sizes and speeds (9), and deflate for thousands of messages (12, 13), take minutes: a case of each kind is in the test,
/// and all of them with AUTOBAHN=all.
const QUICK: [&str; 14] = [
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "9.1.1", "9.5.1", "12.1.3", "12.1.10",
    "13.1.3", "13.7.3",
];

const PASSED: [&str; 5] = [
    "OK OK",
    "NON-STRICT OK",
    "INFORMATIONAL OK",
    "INFORMATIONAL INFORMATIONAL",
    "UNIMPLEMENTED OK",
];

/// Verdicts of `index.json` on each case.
fn verdicts(report: &Path) -> BTreeMap<String, String> {
    let index = std::fs::read_to_string(report.join("index.json")).expect("a report was written");
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let agent = index.as_object().unwrap().values().next().unwrap();
    let of = |case: &serde_json::Value| {
        format!(
            "{} {}",
            case["behavior"].as_str().unwrap(),
            case["behaviorClose"].as_str().unwrap()
        )
    };
    let cases = agent.as_object().unwrap().iter();
    cases.map(|(name, case)| (name.clone(), of(case))).collect()
}

fn check(address: &str) {
    let report = tempfile::tempdir().unwrap();
    let mut command = Command::new(repository().join(".venv/bin/kosoku"));
    let url = format!("ws://{address}/echo");
    command.arg(url).arg("-o").arg(report.path());
    if std::env::var("AUTOBAHN").is_err() {
        for case in QUICK {
            command.args(["-i", case]);
        }
    }
    let ran = command
        .output()
        .expect("kosoku is missing; run `just setup`");
    let verdicts = verdicts(report.path());
    // Declined offers are no fault, and neither is a case that trips over Python 3 by itself.
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    let is_broken = |case: &str| {
        let line = said
            .lines()
            .find(|line| line.trim().starts_with(&format!("{case}:")));
        line.is_some_and(|line| line.contains("Strings must be encoded before hashing"))
    };
    let wrong: Vec<_> = verdicts
        .iter()
        .filter(|(case, verdict)| !PASSED.contains(&verdict.as_str()) && !is_broken(case))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{ran:?}");
    assert!(
        verdicts.len() >= 240,
        "only {} cases ran: {ran:?}",
        verdicts.len()
    );
}

fn run(role: &str) {
    let build = Variant::new(&LIMITS);
    let fleet = Fleet::start_with(build.path(), &["--nodes", "app=0,live=1"]).unwrap();
    check(&fleet.node(role).http);
}

#[test]
fn every_case_of_autobahn_passes_on_a_live_node() {
    run("live");
}

#[test]
fn every_case_of_autobahn_passes_through_a_proxy() {
    run("proxy");
}
