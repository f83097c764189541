//! Places: what lasts keeps none from what is short, and no client address has all of them.

use crate::apps::with_handler;
use protoplex_tests::{Connection, Fleet, Response};
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

/// What one uses alone within its budget, many use at once: each is charged its own time.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_not_charged_the_time_of_those_beside_it() {
    let fleet = with_handler("bad-app", "limits.cpu_ms_max = 400\n");
    let address = fleet.node("app").http;
    // As many turns as take a tenth of a second or more.
    let mut turns = 1 << 20;
    loop {
        let started = Instant::now();
        let path = format!("/burn?n={turns}");
        let answer = Connection::get_once(&address, &path).await.unwrap();
        assert_eq!(answer.status, 200, "{turns}: {}", answer.text());
        if started.elapsed() >= Duration::from_millis(100) {
            break;
        }
        turns *= 2;
    }
    let mut burning = JoinSet::new();
    for _ in 0..16 {
        let (address, path) = (address.clone(), format!("/burn?n={turns}"));
        burning.spawn(async move { Connection::get_once(&address, &path).await.unwrap() });
    }
    for answer in burning.join_all().await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // A loop without an end is stopped all the same.
    let stopped = Connection::get_once(&address, "/loop").await.unwrap();
    assert_eq!(stopped.status, 504, "{}", stopped.text());
}
