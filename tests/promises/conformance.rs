//! Verdicts of others on our HTTP: a driver of HTTP/2's rules, and REDbot's of caching, validation and negotiation.

use protoplex_tests::{Fleet, python, repository};
use serde_json::Value;
use std::process::Command;

const SAMPLE: &str = "builds/sample.toml";

/// Rules of which the library underneath (h2) keeps less than the letter: the rule (or how it is broken, where that is
/// the same for many), and why that is good enough.
const OTHERWISE: [(&str, &str); 8] = [
    // An error's name is for people who debug clients. The connection ends as it must.
    (
        "GOAWAY 1 instead of (9,)",
        "header blocks that cannot be decoded end the connection as PROTOCOL_ERROR, not COMPRESSION_ERROR",
    ),
    (
        "GOAWAY 1 instead of (6,)",
        "frames of a wrong size end the connection as PROTOCOL_ERROR, not FRAME_SIZE_ERROR",
    ),
    (
        "GOAWAY 1 instead of a stream's error (6,)",
        "so does PRIORITY of a wrong size, which could be the stream's error alone",
    ),
    (
        "GOAWAY 1 instead of (3,)",
        "a window in SETTINGS above its maximum likewise, not FLOW_CONTROL_ERROR",
    ),
    (
        "GOAWAY 1 instead of a stream's error (5,)",
        "what follows the end of a stream ends the connection, as an endpoint may choose, under the same name",
    ),
    // Nothing depends on it.
    (
        "the first frame is SETTINGS",
        "other frames are served before SETTINGS; no setting of the client makes a request mean something else",
    ),
    (
        "pseudo-fields in trailers",
        "they are dropped before anybody sees them, handler and back end alike",
    ),
    (
        "a path of '/hello#part'",
        "the fragment is dropped before anybody sees it, handler and back end alike",
    ),
];

/// Objections of REDbot to what is meant to be so: how long an answer may be kept is its author's word, and these say
/// nothing. The host adds none of its own.
const MEANT: [(&str, &str); 2] = [
    ("/old", "FRESHNESS_HEURISTIC"),
    ("/api/hello", "FRESHNESS_HEURISTIC"),
];

/// Whether an entry of the table is about this case.
fn concerns(entry: &str, case: &Value) -> bool {
    let of = |key: &str| case[key].as_str().unwrap_or_default();
    of("fault") == entry || (!case["fault"].is_null() && of("rule").starts_with(entry))
}

/// The JSON lines that a driver of tests/drivers prints.
fn driven(driver: &str, args: &[String]) -> Vec<Value> {
    let output = Command::new(python().unwrap())
        .arg(repository().join("tests/drivers").join(driver))
        .args(args)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{driver} failed: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_of_http2_and_of_its_header_compression_is_kept() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let node = fleet.node("proxy");
    let ca = fleet.info["ca"].as_str().unwrap().to_owned();
    let cases = driven("http2", &[node.http, node.https, ca]);
    assert!(cases.len() > 300, "only {} cases ran", cases.len());
    let is_known = |case: &&Value| OTHERWISE.iter().any(|(entry, _)| concerns(entry, case));
    let broken = cases.iter().filter(|case| !case["fault"].is_null());
    let broken: Vec<_> = broken
        .filter(|case| !is_known(case))
        .map(Value::to_string)
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    for (entry, _) in OTHERWISE {
        let known = cases.iter().any(|case| concerns(entry, case));
        assert!(known, "`{entry}` is kept by now: take it out of the table");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redbot_has_nothing_against_an_asset_an_answer_a_redirect_and_a_relayed_answer() {
    let fleet = Fleet::start(SAMPLE).unwrap();
    let base = format!("http://{}", fleet.node("proxy").http);
    let paths = [
        ("/", 200),
        ("/style.css", 200),
        ("/hello", 200),
        ("/old", 301),
        ("/missing.html", 404),
        ("/api/hello", 200),
    ];
    let mut faults = Vec::new();
    for (path, status) in paths {
        let checked = driven("redbot_notes.py", &[format!("{base}{path}")]);
        let [answer] = &checked[..] else {
            panic!("{path}: {checked:?}")
        };
        assert!(answer["error"].is_null(), "{path}: {answer}");
        assert_eq!(answer["status"], status, "{path}: {answer}");
        let notes = answer["notes"].as_array().unwrap().iter();
        let is_meant = |note: &&Value| {
            MEANT
                .iter()
                .any(|meant| (path, &note["note"]) == (meant.0, &meant.1.into()))
        };
        let notes = notes.filter(|note| !is_meant(note));
        faults.extend(notes.map(|note| format!("{path}: {note}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
