//! Guarantees of a push, by their numbers in docs/guarantees.md.

use hmac::{Hmac, Mac};
use protoplex_tests::{Connection, Fleet, Load, LoadReport, Response};
use protoplex_wire::BuildId;
use sha2::Sha256;
use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

const SWAP: &str = "tests/builds/swap.toml";
const WITNESS: &str = "tests/builds/witness.toml";
const STREAMING: &str = "tests/builds/streaming.toml";
const CONNECTIONS: usize = 16;
/// A visitor that takes so much and then waits: less than a handler makes, more than a reader may be late.
const SLOW_BYTES: usize = 64 << 10;
const SLOW_PACE: Duration = Duration::from_millis(5);
const PUSHES: usize = 100;
/// Memory is compared between this push, when everything has been used, and the last.
const WARM_AFTER: usize = 20;
const MEMORY_GROWTH_MAX: f64 = 1.05;

fn text(response: &Response) -> String {
    format!("{} {}", response.status, response.text().trim())
}

fn assert_no_failure(report: &LoadReport) {
    let some = &report.failures[..report.failures.len().min(5)];
    assert!(
        report.failures.is_empty(),
        "{} failed: {some:?}",
        report.failures.len()
    );
    assert!(report.total() > 0, "nothing was asked");
}

/// Guarantees 1, 2, 3 and 8. The builds differ in component and in setting: half a switch would show.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_pushes_at_full_load_fail_no_request_and_every_answer_is_of_one_build() {
    const A: &str = "tests/builds/hello.toml";
    const B: &str = "tests/builds/hello-b.toml";
    let fleet = Fleet::start(A).unwrap();
    let load = Load::start(
        &fleet.node("proxy").http,
        "/",
        CONNECTIONS,
        |response| match text(response).as_str() {
            "200 hello" => Ok("a".into()),
            "200 hej from b" => Ok("b".into()),
            other => Err(other.into()),
        },
    );
    let mut memory = Vec::new();
    for push in 1..=PUSHES {
        let build = if push % 2 == 1 { B } else { A };
        let pushed = tokio::task::block_in_place(|| fleet.push(build, &[])).unwrap();
        assert_eq!(pushed.code, 0, "push {push}: {pushed:?}");
        if push == WARM_AFTER || push == PUSHES {
            memory.push(["proxy", "app"].map(|role| fleet.private_bytes(role).unwrap()));
        }
    }
    let report = load.finish().await;
    assert_no_failure(&report);
    assert!(
        report.seen["a"] > 0 && report.seen["b"] > 0,
        "{:?}",
        report.seen
    );
    for (role, (early, late)) in memory[0].iter().zip(memory[1]).enumerate() {
        let growth = late as f64 / *early as f64;
        assert!(
            growth <= MEMORY_GROWTH_MAX,
            "role {role} grew by {growth:.3}: {memory:?}"
        );
    }
}

/// Guarantee 1, over two nodes: the hop carries the build.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_two_nodes_sees_one_build() {
    let fleet = Fleet::start(WITNESS).unwrap();
    let load = Load::start(
        &fleet.node("proxy").http,
        "/",
        CONNECTIONS,
        |response| match text(response).as_str() {
            "200 blue blue" => Ok("blue".into()),
            "200 green green" => Ok("green".into()),
            other => Err(other.into()),
        },
    );
    for push in 0..30 {
        let color = ["greeting=green", "greeting=blue"][push % 2];
        let pushed = tokio::task::block_in_place(|| fleet.push(WITNESS, &[color])).unwrap();
        assert_eq!(pushed.code, 0, "{pushed:?}");
    }
    let report = load.finish().await;
    assert_no_failure(&report);
    assert_eq!(report.seen.len(), 2, "{:?}", report.seen);
}

/// Carries the build on a hop.
pub(crate) const HOP_HEADER: &str = "protoplex-build";

/// Value of that header by which a node of the fleet names a build to another.
pub(crate) fn hop(fleet: &Fleet, node: &str, build: &BuildId) -> String {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    hop_of(fleet, node, build, since.as_secs() / 60)
}

/// The fleet's secret for tokens, as a node keeps it.
pub(crate) fn hop_key(fleet: &Fleet, node: &str) -> Vec<u8> {
    let file = format!("nodes/{node}/data/directory.json");
    let directory = fs::read(fleet.data().join(file)).unwrap();
    let directory: serde_json::Value = serde_json::from_slice(&directory).unwrap();
    hex::decode(directory["hop_key"].as_str().unwrap()).unwrap()
}

/// Value of that header for another minute.
pub(crate) fn hop_of(fleet: &Fleet, node: &str, build: &BuildId, window: u64) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&hop_key(fleet, node)).unwrap();
    mac.update(b"protoplex-hop-v2:");
    mac.update(build.as_bytes());
    mac.update(&window.to_be_bytes());
    let token = hex::encode(&mac.finalize().into_bytes()[..16]);
    format!("{build}:{window}:{token}")
}

/// What a node of the fleet says beside that token of where a request came in, for a request with these headers that tell
/// of the client; each is named by its number.
pub(crate) fn origin_of(secret: &[u8], token: &str, origin: &str, told: &[(u8, &str)]) -> String {
    let mut parts = token.split(':');
    let build: BuildId = parts.next().unwrap().parse().unwrap();
    let window: u64 = parts.next().unwrap().parse().unwrap();
    let mac = |key: &[u8], text: &[&[u8]]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        text.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes()
    };
    let window = window.to_be_bytes();
    let key = mac(
        secret,
        &[b"protoplex-origin-v1:", build.as_bytes(), &window],
    );
    let mut text = origin.as_bytes().to_vec();
    for (header, value) in told {
        text.extend([b'\n', *header]);
        text.extend(value.as_bytes());
    }
    format!("{origin} {}", hex::encode(&mac(&key, &[&text])[..16]))
}

/// Where other nodes relay to a role's first node.
pub(crate) async fn internal(fleet: &Fleet, role: &str) -> String {
    let status = fleet.meta(role, "/status").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let address = status["addresses"]["internal"].as_str().unwrap();
    address.trim_start_matches("http://").to_owned()
}

/// The build that answers.
pub(crate) fn active(fleet: &Fleet) -> BuildId {
    let status = fleet.run(&["status", "--json"]).unwrap().out;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status["active"].as_str().unwrap().parse().unwrap()
}

/// Guarantee 1, where it cannot be kept: another build is no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_hop_that_names_a_build_not_held_is_told_to_come_back_and_is_counted() {
    let fleet = Fleet::start(SWAP).unwrap();
    let active = active(&fleet);
    let internal = internal(&fleet, "app").await;
    let mut connection = Connection::open(&internal).await.unwrap();
    for (build, expected) in [(active, 200), (BuildId::of(b"not held"), 503)] {
        let hop = hop(&fleet, "app-1", &build);
        let hop = [(HOP_HEADER, hop.as_str())];
        let answer = connection.request("GET", "/", &hop, b"").await.unwrap();
        assert_eq!(answer.status, expected, "{}", answer.text());
        assert_eq!(answer.header("retry-after").is_some(), expected == 503);
    }
    let misses = fleet
        .metric("app", "protoplex_hop_build_misses_total")
        .await;
    assert_eq!(misses.unwrap(), 1.0);
}

/// Guarantees 2 and 3: the switch reaches connections that are open, and closes none.
#[tokio::test(flavor = "multi_thread")]
async fn after_the_ack_no_answer_is_of_the_old_build_on_any_connection() {
    let fleet = Fleet::start(SWAP).unwrap();
    let mut connections = Vec::new();
    for role in ["proxy", "app"] {
        for _ in 0..CONNECTIONS {
            let mut connection = Connection::open(&fleet.node(role).http).await.unwrap();
            assert_eq!(text(&connection.get("/").await.unwrap()), "200 blue");
            connections.push(connection);
        }
    }
    for (order, expected) in [
        (&["push", SWAP, "--set", "greeting=green"][..], "200 green"),
        (&["rollback"], "200 blue"),
    ] {
        let said = fleet.run(order).unwrap();
        assert_eq!(said.code, 0, "{said:?}");
        for connection in &mut connections {
            assert_eq!(text(&connection.get("/").await.unwrap()), expected);
        }
    }
}

/// Guarantee 4.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_finishes_on_the_old_build() {
    // A minute, so that nothing is cut here however long a push takes.
    let fleet = Fleet::start_with(STREAMING, &["--drain-timeout", "60"]).unwrap();
    let app = fleet.node("app").http;
    let half = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf").into_bytes()
    };
    // One is being answered, the other one's handler still reads; both end when the test says so.
    let mut answered = Connection::open(&app).await.unwrap();
    answered.write(&half("/api/echo")).await.unwrap();
    let head = answered.response(true).await.unwrap();
    let mut reading = Connection::open(&app).await.unwrap();
    reading.write(&half("/api/count")).await.unwrap();
    fleet
        .wait_for_metric("app", "protoplex_in_flight", |in_flight| in_flight >= 2.0)
        .await;
    // A build without either of them.
    let pushed = tokio::task::block_in_place(|| fleet.push(SWAP, &[])).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    assert_eq!(
        text(&Connection::get_once(&app, "/api/stream").await.unwrap()),
        "200 blue"
    );
    answered.write(b"done").await.unwrap();
    let whole = answered.rest(head).await.unwrap();
    assert_eq!(text(&whole), "200 halfdone");
    reading.write(b"done").await.unwrap();
    let counted = reading.response(false).await.unwrap();
    assert_eq!(counted.status, 200, "{}", counted.text());
    assert!(
        counted.text().contains(r#""bytes":8,"#),
        "{}",
        counted.text()
    );
}

/// Guarantee 4, the other end of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_outlives_the_drain_deadline_is_cut_and_counted() {
    let fleet = Fleet::start_with(STREAMING, &["--drain-timeout", "1"]).unwrap();
    let app = fleet.node("app").http;
    let slow = tokio::spawn(async move { Connection::get_once(&app, "/sleep?n=20000").await });
    fleet
        .wait_for_metric("app", "protoplex_in_flight", |in_flight| in_flight >= 1.0)
        .await;
    let started = Instant::now();
    let pushed = tokio::task::block_in_place(|| fleet.push(SWAP, &[])).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    assert_eq!(slow.await.unwrap().unwrap().status, 503);
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    fleet
        .wait_for_metric("app", "protoplex_requests_cut_total", |cut| cut == 1.0)
        .await;
}

/// A body that always has more to read, for a client that is slower.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_more_slowly_than_it_is_made_is_cut_at_the_deadline_too() {
    let fleet = Fleet::start_with(STREAMING, &["--drain-timeout", "1"]).unwrap();
    let mut slow = Connection::open(&fleet.node("app").http).await.unwrap();
    let head = b"GET /big-response HTTP/1.1\r\nhost: app\r\n\r\n";
    slow.write(head).await.unwrap();
    slow.response(true).await.unwrap();
    let pushed = tokio::task::block_in_place(|| fleet.push(SWAP, &[])).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    let (started, mut pace) = (Instant::now(), tokio::time::interval(SLOW_PACE));
    while slow.exactly(SLOW_BYTES).await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(10), "it goes on");
        pace.tick().await;
    }
    fleet
        .wait_for_metric("app", "protoplex_requests_cut_total", |cut| cut == 1.0)
        .await;
}

/// Guarantees 5 and 6: refused where it fails, with stage and reason, and visitors see nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_its_warm_up_takes_no_traffic_and_says_why() {
    let fleet = Fleet::start(SWAP).unwrap();
    let load = Load::start(&fleet.node("proxy").http, "/", 4, |response| {
        match text(response).as_str() {
            "200 blue" => Ok("blue".into()),
            other => Err(other.into()),
        }
    });
    let push = || fleet.push("tests/builds/broken-probe.toml", &[]);
    let pushed = tokio::task::block_in_place(push).unwrap();
    assert_eq!(pushed.code, 3, "{pushed:?}");
    let said = format!("{}{}", pushed.out, pushed.err);
    assert!(
        said.contains("at warm-up: handler `broken`") && said.contains("unreachable"),
        "{said}"
    );
    assert_no_failure(&load.finish().await);
}

/// Guarantee 10: a Seed that was restored from an old backup cannot take nodes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_seed_restored_from_an_old_backup_is_fenced_and_takes_nothing_away() {
    let mut fleet = Fleet::start(SWAP).unwrap();
    let (seed, backup) = (fleet.data().join("seed"), fleet.data().join("backup"));
    fleet.stop().unwrap();
    copy(&seed, &backup);
    fleet.start_again(SWAP).unwrap();
    assert_eq!(fleet.push(SWAP, &["greeting=green"]).unwrap().code, 0);
    assert_eq!(fleet.push(SWAP, &["greeting=red"]).unwrap().code, 0);
    fleet.stop().unwrap();
    fs::remove_dir_all(&seed).unwrap();
    copy(&backup, &seed);
    fleet.start_again(SWAP).unwrap();
    // The old Seed's order is to run `blue`; it may only come as a release above what the nodes took.
    let held = |fleet: &Fleet| {
        let state = fs::read_to_string(fleet.data().join("nodes/proxy-1/data/state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        let number = |key: &str| state["release"][key].as_u64().unwrap();
        (number("epoch"), number("sequence"))
    };
    assert!(held(&fleet) >= (1, 3), "{:?}", held(&fleet));
    let pushed = fleet.push(SWAP, &["greeting=white"]).unwrap();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    assert!(held(&fleet).0 >= 2, "a new epoch: {:?}", held(&fleet));
    let answer = Connection::get_once(&fleet.node("proxy").http, "/")
        .await
        .unwrap();
    assert_eq!(text(&answer), "200 white");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status();
    assert!(copied.unwrap().success());
}
