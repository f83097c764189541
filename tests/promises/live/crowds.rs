//! Many connections from one place, whatever their transport: its share is bounded, and all others go on.

use super::{
    LIVE,
    swaps::Variant,
    transports::{POLL, Poll},
};
use protoplex_tests::{Connection, Fleet, Node, Response, Socket};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

/// Connections of one address in each of the two children.
const SHARE: usize = 20;
/// All connections of each.
const ROOM: usize = 60;
const FLOOD: &str = "203.0.113.9";
const OFFICE: &str = "198.51.100.7";
/// Sessions that ask for nothing are gone by then where others need the room.
const CROWDED_MAX: Duration = Duration::from_secs(20);

/// A fleet behind a balancer on this machine, which names its clients.
fn fleet(limits: &str, more: &[&str]) -> Fleet {
    fleet_of(LIVE, limits, more)
}

fn fleet_of(build: &str, limits: &str, more: &[&str]) -> Fleet {
    let text = format!(r#"{{"trust_forwarded_from":["127.0.0.0/8"],"limits":{{{limits}}}}}"#);
    let more = [&["--nodes", "app=0,live=1"][..], more].concat();
    Fleet::start_with_ingress(build, &text, &more).unwrap()
}

fn small(more: &[&str]) -> Fleet {
    // Of the node, for two children.
    let limits = format!(
        r#""address_connections_max":{},"connections_max":{}"#,
        2 * SHARE,
        2 * ROOM
    );
    fleet(&limits, more)
}

/// A session of a client that polls, asked for by a connection that many may share.
async fn session(connection: &mut Connection, client: &str) -> Response {
    let headers = [POLL, ("x-forwarded-for", client)];
    let answer = connection.request("POST", "/count", &headers, b"[]").await;
    answer.unwrap()
}

fn id_of(response: &Response) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    let objects: Value = serde_json::from_slice(&response.body).unwrap();
    objects[0]["welcome"]["session"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The number of sessions that were opened of those that were asked for, and the status of the others.
async fn flood(proxy: &Node, client: &str, sessions: usize) -> (usize, Vec<u16>) {
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    let (mut opened, mut refused) = (0, Vec::new());
    for _ in 0..sessions {
        match session(&mut connection, client).await.status {
            200 => opened += 1,
            status => refused.push(status),
        }
    }
    (opened, refused)
}

/// A client of another address is let in by every transport, and answered.
async fn is_served(proxy: &Node, client: &'static str) {
    let from = [("x-forwarded-for", client)];
    let mut socket = Socket::open_with(&proxy.http, "/count", &from)
        .await
        .unwrap();
    socket.text().await.unwrap();
    assert!(socket.ask("count").await.unwrap().starts_with("1 "));
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    let session = id_of(&session(&mut connection, client).await);
    let named = [POLL, from[0], ("protoplex-session", &session)];
    let said = connection.request("POST", "/count", &named, b"{\"id\":1,\"send\":\"count\"}");
    assert_eq!(said.await.unwrap().status, 202);
    let told = connection
        .request("GET", "/count", &named, b"")
        .await
        .unwrap();
    assert!(told.text().contains("1 "), "{}", told.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_without_a_connection_count_by_their_clients_address() {
    let fleet = small(&[]);
    let (proxy, live) = (fleet.node("proxy"), fleet.node("live"));
    let (opened, refused) = flood(&proxy, FLOOD, 5 * SHARE).await;
    assert_eq!(opened, SHARE);
    assert!(refused.iter().all(|status| *status == 429), "{refused:?}");
    let counted = fleet.refused(&live, "live-address-connections").await;
    assert_eq!(counted.unwrap(), refused.len() as f64);
    // Its WebSockets and event streams are of the same share.
    let from = [("x-forwarded-for", FLOOD)];
    let socket = Socket::open_with(&proxy.http, "/count", &from).await;
    assert!(format!("{:#}", socket.unwrap_err()).contains("429"));
    let events = [from[0], ("accept", "text/event-stream")];
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    let events = connection.request("GET", "/count", &events, b"").await;
    assert_eq!(events.unwrap().status, 429);
    // An office behind one address is all let in, and a push changes nothing of that.
    for _ in 0..SHARE / 2 - 1 {
        is_served(&proxy, OFFICE).await;
    }
    let pushed = fleet.push(LIVE, &["greeting=two"]).unwrap();
    assert_eq!(pushed.code, 0, "{}{}", pushed.out, pushed.err);
    is_served(&proxy, "192.0.2.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_make_room_for_newcomers_in_bounded_time() {
    let fleet = small(&[]);
    let (proxy, live) = (fleet.node("proxy"), fleet.node("live"));
    let mut opened = 0;
    let mut refused = Vec::new();
    for address in ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"] {
        let (more, others) = flood(&proxy, address, SHARE).await;
        opened += more;
        refused.extend(others);
    }
    assert_eq!((opened, refused.len()), (ROOM, 4 * SHARE - ROOM));
    assert!(refused.iter().all(|status| *status == 503), "{refused:?}");
    let counted = fleet.refused(&live, "live-connections").await;
    assert_eq!(counted.unwrap(), refused.len() as f64);
    let asked = Instant::now();
    let mut connection = Connection::open(&proxy.http).await.unwrap();
    while session(&mut connection, OFFICE).await.status != 200 {
        assert!(asked.elapsed() < CROWDED_MAX, "there is no room");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Twenty instances in each child, of which connections fill ten at most: 64 in each, and a quarter for one address.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_leaves_instances_for_others_and_for_the_next_build() {
    const OF_ADDRESS: usize = 10 * 64 / 4;
    let fleet = fleet("", &["--instances-max", "20"]);
    let proxy = fleet.node("proxy");
    let (opened, refused) = flood(&proxy, FLOOD, 1_400).await;
    assert_eq!(opened, OF_ADDRESS);
    assert!(refused.iter().all(|status| *status == 429), "{refused:?}");
    for _ in 0..20 {
        is_served(&proxy, OFFICE).await;
    }
    // From many places all instances for connections are filled, and a build is warmed up all the same.
    for address in 1..=4 {
        flood(&proxy, &format!("192.0.2.{address}"), OF_ADDRESS).await;
    }
    let (opened, refused) = flood(&proxy, "192.0.2.5", 1).await;
    assert_eq!((opened, refused), (0, vec![503]));
    let pushed = fleet.push(LIVE, &["greeting=two"]).unwrap();
    assert_eq!(pushed.code, 0, "{}{}", pushed.out, pushed.err);
}

/// Messages of one connection in a second, and as many at once.
const RATE: usize = 50;
/// So many more than are allowed at once take two seconds.
const MESSAGES: usize = 3 * RATE;
const HELD_BACK_MIN: Duration = Duration::from_millis(1_900);

/// Sends so many messages at once, and reads all answers.
async fn ask_at_once(socket: &mut Socket, messages: usize) -> Duration {
    let asked = Instant::now();
    for _ in 0..messages {
        socket.send("count").await.unwrap();
    }
    for _ in 0..messages {
        assert!(socket.text().await.unwrap().ends_with(" one"));
    }
    asked.elapsed()
}

async fn opened(proxy: &Node, client: &'static str) -> Socket {
    let from = [("x-forwarded-for", client)];
    let mut socket = Socket::open_with(&proxy.http, "/count", &from)
        .await
        .unwrap();
    socket.text().await.unwrap();
    socket
}

async fn held_back(fleet: &Fleet) -> f64 {
    let held = fleet.metric("live", "protoplex_live_held_back_total").await;
    held.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_more_than_its_rate_is_read_more_slowly_and_loses_nothing() {
    let rate = format!("ping_ms = 1000\nreceived_per_s_max = {RATE}\nreceived_burst_max = {RATE}");
    let build = Variant::new(&[("ping_ms = 1000", &rate)]);
    let fleet = fleet_of(build.path(), "", &[]);
    let proxy = fleet.node("proxy");
    let mut fast = opened(&proxy, FLOOD).await;
    let mut neighbour = opened(&proxy, FLOOD).await;
    // A burst is answered at once.
    ask_at_once(&mut neighbour, RATE - 1).await;
    assert_eq!(held_back(&fleet).await, 0.0);
    let took = ask_at_once(&mut fast, MESSAGES).await;
    assert!(took >= HELD_BACK_MIN, "{took:?}");
    assert!(held_back(&fleet).await >= 1.0);
    // A large message is as much as several; this one has 62 times 16 KiB.
    let from = [("x-forwarded-for", OFFICE)];
    let mut large = Socket::open_with(&proxy.http, "/echo", &from)
        .await
        .unwrap();
    let echoed = large.ask(&"x".repeat(62 * (16 << 10))).await.unwrap();
    assert_eq!(echoed.len(), 62 * (16 << 10));
    let asked = Instant::now();
    large.ask("count").await.unwrap();
    assert!(
        asked.elapsed() > Duration::from_millis(200),
        "{:?}",
        asked.elapsed()
    );
    // Commands by requests wait likewise, and what would wait too long is refused.
    let from = [("x-forwarded-for", "192.0.2.1")];
    let mut poll = Poll::open_with(&proxy.http, "/count", &from).await;
    let commands = |count: usize| json!(vec![json!({"send": "count"}); count]);
    let asked = Instant::now();
    assert_eq!(poll.say(&commands(MESSAGES)).await, 202);
    assert!(asked.elapsed() >= HELD_BACK_MIN, "{:?}", asked.elapsed());
    assert_eq!(poll.say(&commands(20 * RATE)).await, 429);
    assert_eq!(poll.say(&commands(1)).await, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_say_nothing_count_like_messages() {
    let rate = format!("ping_ms = 60000\nreceived_per_s_max = {RATE}\nreceived_burst_max = {RATE}");
    let build = Variant::new(&[("ping_ms = 1000", &rate)]);
    let fleet = fleet_of(build.path(), "", &[]);
    let proxy = fleet.node("proxy");
    let begin = Frame::message("count", OpCode::Data(Data::Text), false);
    let part = Frame::message("", OpCode::Data(Data::Continue), false);
    let end = Frame::message("", OpCode::Data(Data::Continue), true);
    for (client, one) in [
        (FLOOD, part),
        (OFFICE, Frame::pong("")),
        ("192.0.2.1", Frame::ping("")),
    ] {
        let before = held_back(&fleet).await;
        let mut socket = opened(&proxy, client).await;
        let flood = std::iter::repeat_n(one, MESSAGES);
        for frame in [begin.clone()]
            .into_iter()
            .chain(flood)
            .chain([end.clone()])
        {
            socket.send_message(Message::Frame(frame)).await.unwrap();
        }
        assert!(socket.text().await.unwrap().ends_with(" one"));
        // Each frame above the burst is waited for once, and the rate gives some meanwhile.
        let waits = held_back(&fleet).await - before;
        assert!(waits >= RATE as f64, "{client}: {waits}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_one_rate_for_all_its_connections_and_drawing_is_below_it() {
    // Of the node, for two children.
    let limits = format!(
        r#""address_messages_per_s":{0},"address_burst_messages":{0}"#,
        2 * RATE
    );
    let fleet = fleet(&limits, &[]);
    let proxy = fleet.node("proxy");
    let (mut one, mut other) = (opened(&proxy, FLOOD).await, opened(&proxy, FLOOD).await);
    let asked = Instant::now();
    tokio::join!(
        ask_at_once(&mut one, MESSAGES / 2),
        ask_at_once(&mut other, MESSAGES / 2)
    );
    assert!(asked.elapsed() >= HELD_BACK_MIN, "{:?}", asked.elapsed());
    let before = held_back(&fleet).await;
    // Somebody else draws, and this machine is under no rate.
    let mut hand = opened(&proxy, OFFICE).await;
    for _ in 0..RATE {
        hand.ask("count").await.unwrap();
        tokio::time::sleep(Duration::from_millis(16)).await;
    }
    let mut own = Socket::open(&fleet.node("live").http, "/count")
        .await
        .unwrap();
    own.text().await.unwrap();
    ask_at_once(&mut own, 10 * MESSAGES).await;
    assert_eq!(held_back(&fleet).await, before);
}
