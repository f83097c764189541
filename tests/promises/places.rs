//! Places: what lasts keeps none from what is short, and no client address has all of them.

use crate::apps::with_handler;
use protoplex_tests::{Connection, Fleet, Origin, Response, cpu_time, read_head};
use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const CUT: &str = "tests/builds/cut.toml";
const WORLDS: &str = "tests/builds/worlds.toml";
const ONE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Each node has two children.
const CHILDREN: usize = 2;

/// Opens streams, and keeps those that were let in; the others were told to come back.
async fn open(from: Ipv4Addr, address: &str, path: &str, times: usize) -> Vec<Connection> {
    let mut here = Vec::new();
    for _ in 0..times {
        let mut connection = Connection::open_from(from, address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        connection.write(request.as_bytes()).await.unwrap();
        let head = connection.response(true).await.unwrap();
        match head.status {
            200 => here.push(connection),
            503 => assert!(head.header("retry-after").is_some(), "{head:?}"),
            other => panic!("{other}"),
        }
    }
    here
}

/// With the default limits, more event streams than there are places, all of one client.
#[tokio::test(flavor = "multi_thread")]
async fn idle_event_streams_keep_nobody_out_of_an_app() {
    let fleet = with_handler("bad-app", "");
    let address = fleet.node("app").http;
    let streams = open(ONE, &address, "/silent-body", 140).await;
    assert_eq!(streams.len(), 140);
    for from in [ONE, OTHER] {
        let started = Instant::now();
        let mut connection = Connection::open_from(from, &address).await.unwrap();
        let answer = connection.get("/ok").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_a_share_of_the_streams_also_by_a_proxy() {
    for role in ["app", "proxy"] {
        let fleet = Fleet::start(CUT).unwrap();
        let address = fleet.node(role).http;
        // Eight in each child (streams_max): six for one address, the rest for others. A proxy that has found a child full
        // may ask it again.
        let least = if role == "app" { CHILDREN } else { 1 };
        let streams = open(ONE, &address, "/api/few/silent-body", 40).await;
        let all = 6 * least..=6 * CHILDREN;
        assert!(all.contains(&streams.len()), "{role}: {}", streams.len());
        let others = open(OTHER, &address, "/api/few/silent-body", 40).await;
        let all = 2 * least..=8 * CHILDREN - streams.len();
        assert!(all.contains(&others.len()), "{role}: {}", others.len());
        // A short request needs no place among them.
        for from in [ONE, OTHER] {
            let mut connection = Connection::open_from(from, &address).await.unwrap();
            let answer = connection.get("/api/few/ok").await.unwrap();
            assert_eq!(answer.status, 200, "{role}: {}", answer.text());
        }
    }
}

/// A quarter of the places is left to others, also where one address asks for all that there are, and waits for more.
#[tokio::test(flavor = "multi_thread")]
async fn one_address_leaves_places_to_others_while_its_requests_last() {
    let fleet = with_handler(
        "bad-app",
        "limits.in_flight_max = 4\nlimits.queue_max = 4\n",
    );
    let address = fleet.node("app").http;
    let mut sleeping = JoinSet::new();
    for _ in 0..40 {
        let address = address.clone();
        sleeping.spawn(async move {
            let mut connection = Connection::open_from(ONE, &address).await.unwrap();
            connection.get("/sleep?n=20000").await.unwrap()
        });
    }
    // Who is past the share of the queue is told at once: all but three places and three that wait, in each child.
    for _ in 0..40 - 6 * CHILDREN {
        let answer: Response = sleeping.join_next().await.unwrap().unwrap();
        assert_eq!(answer.status, 503);
    }
    for _ in 0..10 {
        let mut connection = Connection::open_from(OTHER, &address).await.unwrap();
        let answer = connection.get("/ok").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let mut connection = Connection::open(&address).await.unwrap();
    assert_eq!(connection.get("/ok").await.unwrap().status, 503);
}

/// One app with each isolation, under a host of its own.
const LEFT: &str = r#"
name = "left"

[handlers.alone]
component = "OUT/bad-app.wasm"
probe.path = "/ok"
limits.in_flight_max = 4

[handlers.shared]
component = "OUT/bad-app.wasm"
isolation = "shared"
probe.path = "/ok"
limits.in_flight_max = 4

[handlers.together]
component = "OUT/bad-app.wasm"
isolation = { concurrency = 3 }
probe.path = "/ok"
limits.in_flight_max = 4

[[routes]]
role = "app"
host = "alone"
path = "/*"
handler = "alone"

[[routes]]
role = "app"
host = "shared"
path = "/*"
handler = "shared"

[[routes]]
role = "app"
host = "together"
path = "/*"
handler = "together"
"#;

/// More than there are places in both children ask for what takes for ever, and reset their connections.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_reset_before_a_response_hold_no_places() {
    const FROM: [Ipv4Addr; 3] = [ONE, OTHER, Ipv4Addr::new(127, 0, 0, 3)];
    const EACH: u32 = 10;
    const ALL: f64 = 30.0;
    const SOON: Duration = Duration::from_secs(10);
    let fleet = Fleet::start_text(LEFT, &["--nodes", "proxy=0"]).unwrap();
    let address = fleet.node("app").http;
    let request = |host, path| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    for host in ["alone", "shared", "together"] {
        let mut clients = Vec::new();
        for from in FROM {
            for _ in 0..EACH {
                let mut client = Connection::open_from(from, &address).await.unwrap();
                client
                    .write(request(host, "/sleep").as_bytes())
                    .await
                    .unwrap();
                clients.push(client);
            }
        }
        fleet
            .wait_for_metric("app", "protoplex_in_flight", |n| n == ALL)
            .await;
        for client in clients {
            client.reset().unwrap();
        }
        for _ in 0..8 {
            let from = Ipv4Addr::new(127, 0, 0, 9);
            let mut client = Connection::open_from(from, &address).await.unwrap();
            client.write(request(host, "/ok").as_bytes()).await.unwrap();
            let answer = tokio::time::timeout(SOON, client.response(false)).await;
            let answer = answer.unwrap_or_else(|_| panic!("{host}: a place is held"));
            assert_eq!(answer.unwrap().status, 200, "{host}");
        }
    }
}

/// What guests do after their responses has places of its own; beyond them it is ended, and requests are served.
#[tokio::test(flavor = "multi_thread")]
async fn work_after_responses_keeps_no_place_from_requests_and_streams() {
    let silent = Origin::start(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    });
    let silent = silent.await.unwrap();
    let lines = format!(
        "grants.outgoing = [\"{}\"]\nlimits.in_flight_max = 2\nlimits.streams_max = 2\nlimits.queue_max = 2\n",
        silent.address
    );
    let fleet = with_handler("bad-app", &lines);
    let address = fleet.node("app").http;
    let path = format!("/outgoing-after?to={}/", silent.address);
    for _ in 0..40 {
        let answer = Connection::get_once(&address, &path).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "later\n"));
    }
    fleet.wait_for_log("too many guests work on").await;
    for _ in 0..8 {
        let answer = Connection::get_once(&address, "/ok").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(open(ONE, &address, "/silent-body", 1).await.len(), 1);
}

/// A stream that waits for most of the time lives on beyond its budget; loops that have no end are stopped beside it,
/// also where each has but a small share of the thread.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_mostly_waits_outlives_its_cpu_budget_and_a_loop_does_not() {
    const PIECES: usize = 60;
    let limits = "limits.cpu_ms_max = 200\n";
    let fleet = with_handler("bad-app", limits);
    let address = fleet.node("app").http;
    // Three times its budget.
    let path = format!("/steady?n={PIECES}");
    let steady = Connection::get_once(&address, &path).await.unwrap();
    assert_eq!(steady.body.len(), "computed\n".len() * PIECES);
    let mut looping = JoinSet::new();
    for _ in 0..16 {
        let address = address.clone();
        looping.spawn(async move { Connection::get_once(&address, "/loop-after").await });
    }
    let stopped = tokio::time::timeout(Duration::from_secs(60), looping.join_all()).await;
    for stopped in stopped.expect("each ends") {
        let whole = stopped.as_ref().is_ok_and(|answer| answer.status == 200);
        assert!(!whole, "{stopped:?}");
    }
}

/// An edge handler that may wait has places and a queue, too: one of each here, in each child.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_handler_that_waits_keeps_to_its_places() {
    let fleet = Fleet::start(WORLDS).unwrap();
    let address = fleet.node("proxy").http;
    let mut waiting = JoinSet::new();
    for _ in 0..24 {
        let address = address.clone();
        waiting.spawn(async move { Connection::get_once(&address, "/few/sleep").await.unwrap() });
    }
    let answers = waiting.join_all().await;
    let count = |status| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    // In each child one has the place and one waits for it, both till their deadline; a busy machine may send some of the
    // others only then.
    assert_eq!(count(504) + count(503), 24);
    assert!(
        count(504) >= CHILDREN && count(503) >= 24 - 4 * CHILDREN,
        "{}",
        count(503)
    );
    // The honest client, with one request at a time, is answered.
    let mut connection = Connection::open(&address).await.unwrap();
    for _ in 0..20 {
        assert_eq!(connection.get("/few/").await.unwrap().status, 200);
    }
}

/// Loops that have no end are stopped when each has used its own budget. One that was charged its neighbours' time as well
/// would be stopped after a part of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_not_charged_the_time_of_those_beside_it() {
    const BUDGET: Duration = Duration::from_millis(200);
    let limits = "limits.cpu_ms_max = 200\nlimits.in_flight_max = 512\nlimits.queue_max = 512\n";
    let fleet = with_handler("bad-app", limits);
    let app = fleet.node("app");
    let children = fleet.children(&app).unwrap();
    let used = || children.iter().map(|&child| cpu_time(child).unwrap());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Alone, and several in each thread.
    for together in [1, 16 * cores.min(16)] {
        let before: Duration = used().sum();
        let mut looping = JoinSet::new();
        for _ in 0..together {
            let address = app.http.clone();
            looping.spawn(async move { Connection::get_once(&address, "/loop").await.unwrap() });
        }
        for stopped in looping.join_all().await {
            assert_eq!(stopped.status, 504, "{}", stopped.text());
        }
        let each = (used().sum::<Duration>() - before) / u32::try_from(together).unwrap();
        assert!(each >= BUDGET * 4 / 5, "{together} at once: {each:?} each");
    }
}
