//! Faults of clients and networks on a live node cost nobody else anything.

use super::{LIVE, fleet, swaps::Variant, transports};
use protoplex_tests::{Connection, Fleet, Socket, signal};
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A neighbour is answered by then, whatever others do.
const ANSWER_MAX: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);
const CROWD: usize = 10_000;
/// Opened at once, below the listening sockets' backlog.
const OPENING: usize = 256;

/// Messages of 32 KiB: the queue of a connection holds 31 of them, and the kernel some more.
async fn publish(address: &str, token: &str, channel: &str, messages: usize) {
    let data = "x".repeat(32 << 10);
    for _ in 0..messages {
        let body = json!({"channel": channel, "data": data});
        let said = transports::published(address, token, &body).await;
        assert!(said["results"][0]["position"].is_string(), "{said}");
    }
}

/// Until what is published on its channel reaches it: the channel may be another child's.
async fn reached(reader: &mut Socket, address: &str, token: &str) {
    let say = async |data: &str| {
        let body = json!({"channel": "test:slow", "data": data});
        transports::published(address, token, &body).await
    };
    loop {
        say("does it?").await;
        let heard = tokio::time::timeout(Duration::from_millis(250), reader.text());
        if heard.await.is_ok() {
            break;
        }
    }
    say("it does").await;
    while !reader.text().await.unwrap().contains("it does") {}
}

/// A connection that is switched and from then on neither reads nor writes.
async fn silent(address: &str, path: &str) -> Connection {
    let mut connection = Connection::open(address).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    connection.write(head.as_bytes()).await.unwrap();
    let response = connection.response(true).await.unwrap();
    assert_eq!(response.status, 101, "{response:?}");
    connection
}

async fn gauge(fleet: &Fleet, name: &str) -> f64 {
    let name = format!("protoplex_live_{name}");
    fleet.metric("live", &name).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_does_not_read_is_closed_and_delays_nobody() {
    let fleet = fleet();
    // At the node itself: a proxy's sockets would take some of it.
    let address = fleet.node("live").http;
    let (token, _) = transports::secrets(&fleet);
    let mut reader = Socket::open(&address, "/count?subscribe=test:slow")
        .await
        .unwrap();
    reader.text().await.unwrap();
    reached(&mut reader, &address, &token).await;
    let slow = silent(&address, "/count?subscribe=test:slow").await;
    let mut named = false;
    for _ in 0..40 {
        let metrics = fleet.meta("live", "/metrics").await.unwrap();
        named |= metrics.contains("protoplex_live_backlog_bytes{");
        let asked = Instant::now();
        publish(&address, &token, "test:slow", 10).await;
        for _ in 0..10 {
            assert_eq!(reader.text().await.unwrap().len(), (32 << 10) + 2);
        }
        assert!(asked.elapsed() < ANSWER_MAX, "{:?}", asked.elapsed());
    }
    assert!(named, "the metrics name it while it is behind");
    // Sooner than one who only takes nothing of what was written.
    let deadline = Instant::now() + Duration::from_secs(8);
    while gauge(&fleet, "slow_total").await < 1.0 || gauge(&fleet, "connections").await > 1.0 {
        assert!(
            Instant::now() < deadline,
            "it is still there\n{}",
            fleet.logs()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        gauge(&fleet, "waiting_bytes").await,
        0.0,
        "nothing waits for it"
    );
    fleet.wait_for_log("does not keep up").await;
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_does_not_read_a_state_is_given_the_last_one() {
    let fleet = fleet();
    let address = fleet.node("live").http;
    let (token, _) = transports::secrets(&fleet);
    let mut seen = Vec::new();
    let mut slow = Socket::channels(&address, "/count").await.unwrap();
    let subscribe = json!({"id": 1, "subscribe": {"channel": "latest:a"}});
    slow.command(subscribe, &mut seen).await.unwrap();
    publish(&address, &token, "latest:a", 400).await;
    let body = json!({"channel": "latest:a", "data": "last"});
    transports::published(&address, &token, &body).await;
    let mut messages = 0;
    while slow.object().await.unwrap()["data"] != json!("last") {
        messages += 1;
    }
    assert!(messages < 400, "it was not given all of them: {messages}");
    assert_eq!(gauge(&fleet, "slow_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_client_delays_nobody() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let mut neighbour = Socket::open(&address, "/count").await.unwrap();
    neighbour.text().await.unwrap();
    let mut floods = JoinSet::new();
    for _ in 0..4 {
        let address = address.clone();
        floods.spawn(async move {
            let mut socket = Socket::open(&address, "/count").await.unwrap();
            // Answers are not read: the server stops to read, and goes on when they are.
            while socket.send("flood").await.is_ok() {}
        });
    }
    for count in 1..100 {
        let asked = Instant::now();
        let answer = neighbour.ask("count").await.unwrap();
        assert_eq!(answer, format!("{count} one"));
        assert!(asked.elapsed() < ANSWER_MAX, "{:?}", asked.elapsed());
    }
    floods.abort_all();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_gives_no_sign_of_life_is_gone_after_two_questions() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let mut quiet = silent(&address, "/count").await;
    // It takes what comes and says nothing: a question each second, two of them unanswered.
    let opened = Instant::now();
    assert_eq!(gauge(&fleet, "connections").await, 1.0);
    while gauge(&fleet, "connections").await > 0.0 {
        assert!(
            opened.elapsed() < Duration::from_secs(10),
            "it is still there"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        opened.elapsed() > Duration::from_millis(2_000),
        "{:?}",
        opened.elapsed()
    );
    let asked = quiet.until(b"\x89\x00").await.unwrap();
    assert!(!asked.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_cap_of_descriptors_newcomers_are_refused_and_the_others_go_on() {
    let more = ["--nodes", "app=0,live=1"];
    let fleet = Fleet::start_within(400, LIVE, &more).unwrap();
    let address = fleet.node("live").http;
    let mut sockets = Vec::new();
    let refused = loop {
        match Socket::open(&address, "/echo").await {
            Ok(socket) => sockets.push(socket),
            Err(refused) => break refused,
        }
        assert!(sockets.len() < 1_000, "nobody was refused");
    };
    for socket in &mut sockets {
        assert_eq!(
            socket.ask("still here").await.unwrap(),
            "still here",
            "{refused:#}"
        );
    }
    drop(sockets);
    let deadline = Instant::now() + WAIT_MAX;
    while Socket::open(&address, "/echo").await.is_err() {
        assert!(Instant::now() < deadline, "there is room again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Connections that have been opened, `OPENING` at once.
async fn crowd(address: &str, count: usize) -> Vec<Socket> {
    let mut all = Vec::with_capacity(count);
    let deadline = Instant::now() + 2 * WAIT_MAX;
    while all.len() < count {
        let mut opening = JoinSet::new();
        for _ in all.len()..count.min(all.len() + OPENING) {
            let address = address.to_owned();
            opening.spawn(async move { Socket::open(&address, "/echo").await });
        }
        while let Some(opened) = opening.join_next().await {
            // A child that is just dying refuses some, and they come again.
            all.extend(opened.unwrap().ok());
        }
        assert!(Instant::now() < deadline, "only {} came in", all.len());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_who_come_back_at_once_are_let_in_and_memory_is_level_afterwards() {
    let more = ["--nodes", "app=0,live=1"];
    let build = Variant::new(&[("ping_ms = 1000", "ping_ms = 60000")]);
    let fleet = Fleet::start_with(build.path(), &more).unwrap();
    let address = fleet.node("live").http;
    // The parent and this child live through all rounds: what they do not give back adds up.
    let survivor = fleet.children(&fleet.node("live")).unwrap()[0];
    let mut bytes = Vec::new();
    for _ in 0..6 {
        let all = crowd(&address, CROWD).await;
        assert_eq!(gauge(&fleet, "connections").await, CROWD as f64);
        let children = fleet.children(&fleet.node("live")).unwrap();
        let other = children.iter().find(|child| **child != survivor).unwrap();
        signal(*other, Signal::KILL).unwrap();
        drop(all);
        let mut again = crowd(&address, CROWD).await;
        for socket in again.iter_mut().step_by(100) {
            assert_eq!(socket.ask("here").await.unwrap(), "here");
        }
        drop(again);
        let deadline = Instant::now() + WAIT_MAX;
        while gauge(&fleet, "connections").await > 0.0 {
            assert!(Instant::now() < deadline, "some are left");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bytes.push(fleet.private_bytes("live").unwrap());
    }
    // How many pages the allocator has given back by then is a matter of luck: between 45 and 100 MB are left.
    let (first, last) = bytes.split_at(3);
    let (most, least) = (first.iter().max().unwrap(), last.iter().min().unwrap());
    assert!(*least < most + most / 4, "{bytes:?}");
}
