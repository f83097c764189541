//! Each limit of a handler, hit: that request gets a 5xx with its id, the log says why in one line, and the next
//! request is fine.

use protoplex_tests::{Connection, Fleet, Response};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::{sync::watch, task::JoinSet};

const LIMITS: &str = "tests/builds/limits.toml";

/// The lines of a node's children that tell of one request. They come by a pipe, a moment after the answer.
async fn log_of(fleet: &Fleet, role: &str, request: &str) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let lines = lines_of(fleet, role, request).await;
        if !lines.is_empty() || Instant::now() > deadline {
            return lines;
        }
    }
}

async fn lines_of(fleet: &Fleet, role: &str, request: &str) -> Vec<Value> {
    let log = fleet.meta(role, "/logs?lines=2000").await.unwrap();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let of = |line: &Value| line["request"] == request && line["message"] == "a handler failed";
    lines.filter(of).collect()
}

/// One 5xx with its id and one line that names handler, build and kind.
async fn failed(fleet: &Fleet, role: &str, path: &str, status: u16, kind: &str) {
    let (handler, well) = match (role, path) {
        ("proxy", _) => ("bad-edge", "/ok"),
        (_, "/sleep") => ("hasty-app", "/sleep?n=0"),
        _ => ("bad-app", "/ok"),
    };
    let address = fleet.node(role).http;
    let answer = Connection::get_once(&address, path).await.unwrap();
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
    let id = answer.header("x-request-id").unwrap();
    assert!(answer.text().contains(id), "{path}: {}", answer.text());
    let lines = log_of(fleet, role, id).await;
    assert_eq!(lines.len(), 1, "{path}: {lines:?}");
    assert_eq!(lines[0]["handler"], handler, "{path}: {lines:?}");
    assert_eq!(lines[0]["kind"], kind, "{path}: {lines:?}");
    assert!(
        lines[0]["build"].is_string() && lines[0]["reason"].is_string(),
        "{lines:?}"
    );
    let next = Connection::get_once(&address, well).await.unwrap();
    assert_eq!(next.status, 200, "after {path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_handler_that_breaks_a_limit_costs_its_request_and_nothing_else() {
    let fleet = Fleet::start(LIMITS).unwrap();
    for (path, status, kind) in [
        ("/trap", 500, "trap"),
        ("/stack", 500, "trap"),
        ("/loop", 504, "cpu"),
        ("/memory", 500, "memory"),
        ("/big-response?n=65537", 500, "response-bytes"),
        ("/big-response?n=1000000", 500, "hostcall-bytes"),
        ("/long-head", 500, "response-head"),
        ("/many-lines", 500, "response-head"),
        ("/big-header", 500, "hostcall-bytes"),
        ("/many-headers", 500, "hostcall-bytes"),
        ("/big-log", 500, "hostcall-bytes"),
        ("/bad-asset-path", 500, "refused"),
        ("/ungranted-relay", 500, "refused"),
        ("/ungranted-asset", 500, "refused"),
        ("/ungranted-app", 500, "refused"),
        ("/bad-status", 500, "refused"),
        ("/status-101", 500, "refused"),
        ("/bad-header-name", 500, "refused"),
        ("/bad-header-value", 500, "refused"),
        ("/bad-length", 500, "refused"),
        ("/bad-framing", 500, "refused"),
        ("/bad-redirect", 500, "refused"),
        ("/bad-location", 500, "refused"),
        ("/bad-relay-path", 500, "refused"),
        ("/bad-relay-header", 500, "refused"),
    ] {
        failed(&fleet, "proxy", path, status, kind).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_handler_sees_no_more_than_it_was_granted_and_answers_up_to_its_limit() {
    let fleet = Fleet::start(LIMITS).unwrap();
    let address = fleet.node("proxy").http;
    for (path, expected) in [("/setting?shown", "granted"), ("/setting?secret", "(none)")] {
        let answer = Connection::get_once(&address, path).await.unwrap();
        assert_eq!(
            (answer.status, answer.text().trim()),
            (200, expected),
            "{path}"
        );
    }
    let answer = Connection::get_once(&address, "/big-response?n=65536")
        .await
        .unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 65_536));
    // Random bytes are cut to 4 KiB a call; lines of the log are neither lost nor in the way.
    for (path, expected) in [("/big-random", "4096"), ("/many-logs", "logged")] {
        let answer = Connection::get_once(&address, path).await.unwrap();
        assert_eq!(
            (answer.status, answer.text().trim()),
            (200, expected),
            "{path}"
        );
    }
    let missing = Connection::get_once(&address, "/bad-asset").await.unwrap();
    assert!(
        missing.status == 404 || missing.status == 500,
        "{}",
        missing.status
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_breaks_a_limit_costs_its_request_and_nothing_else() {
    let fleet = Fleet::start(LIMITS).unwrap();
    for (path, status, kind) in [
        ("/trap", 500, "trap"),
        ("/exit", 500, "trap"),
        ("/stack", 500, "trap"),
        ("/loop", 504, "cpu"),
        ("/memory", 500, "memory"),
        ("/resources", 500, "memory"),
        ("/sleep", 504, "deadline"),
        ("/error", 502, "guest-error"),
        ("/lines?n=257", 500, "response-head"),
    ] {
        failed(&fleet, "app", path, status, kind).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_an_app_does_not_finish_never_looks_whole() {
    let fleet = Fleet::start(LIMITS).unwrap();
    let address = fleet.node("app").http;
    for path in [
        "/half-body",
        "/half-stream",
        "/short-body",
        "/long-body",
        "/big-response?n=2000000",
        "/loop-after",
    ] {
        let answer: anyhow::Result<Response> = Connection::get_once(&address, path).await;
        // A fault that shows before the head went out may still be a 5xx.
        let whole = answer.as_ref().is_ok_and(|answer| answer.status < 500);
        assert!(!whole, "{path}: {answer:?}");
        let next = Connection::get_once(&address, "/ok").await.unwrap();
        assert_eq!(next.status, 200, "after {path}");
    }
    let most = Connection::get_once(&address, "/big-response?n=1048576")
        .await
        .unwrap();
    assert_eq!((most.status, most.body.len()), (200, 1 << 20));
}

/// A request that is over when the whole of its body has come: that is held back until the word is given.
async fn held_back(address: String, mut word: watch::Receiver<bool>) -> Response {
    let half = b"POST /together HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf";
    let mut connection = Connection::open(&address).await.unwrap();
    connection.write(half).await.unwrap();
    tokio::select! {
        biased;
        head = connection.until(b"\r\n\r\n") => drop(head.unwrap()),
        given = async { word.wait_for(|given| *given).await.is_ok() } => {
            assert!(given);
            // One that is refused only now may be closed.
            let _ = connection.write(b"done").await;
        }
    }
    connection.response(false).await.unwrap()
}

/// Asks so often at once; how many were served. All others were told to come back, and all above `most` while nobody
/// was through yet.
async fn served(address: &str, times: usize, most: usize) -> usize {
    let (word, given) = watch::channel(false);
    let mut asked = JoinSet::new();
    for _ in 0..times {
        asked.spawn(held_back(address.to_owned(), given.clone()));
    }
    let mut answers = Vec::new();
    while answers.len() < times - most {
        answers.push(asked.join_next().await.unwrap().unwrap());
    }
    assert!(answers.iter().all(|early| early.status == 503));
    word.send_replace(true);
    answers.extend(asked.join_all().await);
    let mut served = 0;
    for answer in answers {
        match answer.status {
            200 => served += 1,
            503 => assert!(answer.header("retry-after").is_some(), "{answer:?}"),
            other => panic!("{other}: {}", answer.text()),
        }
    }
    served
}

/// `in_flight_max` and `queue_max` are 2 each, in every child.
#[tokio::test(flavor = "multi_thread")]
async fn past_the_queue_a_request_is_told_to_come_back_at_once() {
    let fleet = Fleet::start(LIMITS).unwrap();
    // Two children, each with two places and a queue of two; shared instances take one at a time.
    let served = served(&fleet.node("app").http, 24, 8).await;
    assert!(served >= 2, "{served} were served");
}

/// Eight instances in each of the two children, places for many more: who finds no instance is told to come back.
#[tokio::test(flavor = "multi_thread")]
async fn past_the_pool_a_request_is_told_to_come_back_and_the_rest_is_served() {
    const ISOLATION: &str = "tests/builds/isolation.toml";
    let fleet = Fleet::start_with(ISOLATION, &["--instances-max", "8"]).unwrap();
    let address = fleet.node("app").http;
    let served = served(&address, 40, 16).await;
    assert!(served >= 1, "{served} were served");
    let next = Connection::get_once(&address, "/ok").await.unwrap();
    assert_eq!(next.status, 200);
}
