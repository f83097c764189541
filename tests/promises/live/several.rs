//! Several children and nodes: a channel is the same everywhere, and goes on where it moves to.

use super::LIVE;
use protoplex_tests::{Connection, Fleet, Socket, signal};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const CHANNELS: usize = 40;
/// Twice what a drain of these needs, with leaving and starting again.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

fn fleet(nodes: &str) -> Fleet {
    let drain_s = DRAIN_TIMEOUT.as_secs().to_string();
    let nodes = format!("app=0,live={nodes}");
    let more = ["--nodes", &nodes, "--drain-timeout", &drain_s];
    Fleet::start_with(LIVE, &more).unwrap()
}

fn position(object: &Value) -> (String, u64) {
    let position = object["position"].as_str().unwrap();
    let (epoch, offset) = position.split_once('-').unwrap();
    (epoch.to_owned(), offset.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_the_same_on_every_child_of_every_node() {
    let fleet = fleet("2");
    let address = fleet.node("proxy").http;
    // Connections are placed by their key, and channels by their name: most of these meet on another child's.
    let mut sockets = Vec::new();
    for key in 0..8 {
        let path = format!("/count?key={key}&user=user-{key}");
        let mut socket = Socket::channels(&address, &path).await.unwrap();
        socket.object().await.unwrap();
        sockets.push(socket);
    }
    let mut seen = Vec::new();
    for channel in 0..CHANNELS {
        let subscribe = json!({"id": 1, "subscribe": {"channel": format!("test:{channel}")}});
        for socket in &mut sockets {
            let answer = socket.command(subscribe.clone(), &mut seen).await.unwrap();
            assert!(answer["ok"].is_object(), "{answer}");
        }
    }
    for channel in 0..CHANNELS {
        let name = format!("test:{channel}");
        let publish = json!({"id": 2, "publish": {"channel": name, "data": channel}});
        let publisher = channel % sockets.len();
        let answer = sockets[publisher]
            .command(publish, &mut seen)
            .await
            .unwrap();
        let told = position(&answer["ok"]);
        for (at, socket) in sockets.iter_mut().enumerate() {
            let mut all = if at == publisher {
                std::mem::take(&mut seen)
            } else {
                Vec::new()
            };
            let is_it = |one: &Value| one["channel"] == json!(name) && !one["data"].is_null();
            while !all.iter().any(is_it) {
                all.push(socket.object().await.unwrap());
            }
            let message = all.iter().find(|one| is_it(one)).unwrap();
            assert_eq!(position(message), told, "{message}");
        }
    }
    // Who is there is the same as well.
    for (at, socket) in sockets.iter_mut().enumerate() {
        let ask = json!({"id": 3, "presence": {"channel": "test:0"}});
        let answer = socket.command(ask, &mut seen).await.unwrap();
        let members = answer["ok"]["members"].as_array().unwrap();
        assert_eq!(members.len(), 8, "{at}: {answer}");
    }
    let links = fleet.metric("live", "protoplex_live_links").await.unwrap();
    assert!(links >= 2.0, "{links}");
}

/// Goes on from what came, as a client does.
fn note(last: &mut [Option<String>], came: &[Value]) -> anyhow::Result<()> {
    for message in came.iter().filter(|one| !one["data"].is_null()) {
        let channel = message["channel"].as_str().unwrap_or_default();
        let channel: usize = channel.trim_start_matches("test:").parse()?;
        last[channel] = message["position"].as_str().map(str::to_owned);
    }
    Ok(())
}

/// A subscriber of all channels that comes back when it is sent away, and asks for what it missed.
async fn follow(address: String, key: usize, stop: Arc<AtomicBool>) -> anyhow::Result<Vec<Value>> {
    let path = format!("/count?key={key}");
    let (mut seen, mut last) = (Vec::new(), vec![None::<String>; CHANNELS]);
    'connections: loop {
        let socket = Socket::channels(&address, &path).await;
        let Ok(mut socket) = socket else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        for channel in 0..CHANNELS {
            let name = format!("test:{channel}");
            let subscribe = match &last[channel] {
                Some(from) => json!({"id": channel, "subscribe": {"channel": name, "from": from}}),
                None => json!({"id": channel, "subscribe": {"channel": name}}),
            };
            let before = seen.len();
            let answer = socket.command(subscribe, &mut seen).await;
            // Messages of channels before this one come while it is answered.
            note(&mut last, &seen[before..])?;
            let Ok(answer) = answer else {
                continue 'connections;
            };
            if answer["error"]["code"] == json!("unavailable") {
                continue 'connections;
            }
            anyhow::ensure!(
                answer["ok"]["recovered"] != json!(false),
                "not recovered: {answer}"
            );
            if last[channel].is_none() {
                last[channel] = answer["ok"]["position"].as_str().map(str::to_owned);
            }
        }
        loop {
            // It may have come while all this was subscribed to, and nothing comes after it.
            if stop.load(Relaxed) && seen.iter().any(|one| one["data"] == json!("end")) {
                return Ok(seen);
            }
            let Ok(object) = socket.object().await else {
                continue 'connections;
            };
            anyhow::ensure!(object["reset"].is_null(), "a stream was lost: {object}");
            if !object["data"].is_null() {
                note(&mut last, std::slice::from_ref(&object))?;
                seen.push(object);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_hands_its_channels_over_and_nothing_is_lost() {
    let fleet = fleet("3");
    let address = fleet.node("proxy").http;
    let (token, stop) = (
        super::transports::secrets(&fleet).0,
        Arc::new(AtomicBool::new(false)),
    );
    let followers: Vec<_> = (0..6)
        .map(|key| tokio::spawn(follow(address.clone(), key, Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let publishing = {
        let (address, token, stop) = (address.clone(), token.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let (mut acknowledged, mut number) = (Vec::new(), 0_u64);
            while !stop.load(Relaxed) {
                let channel = number as usize % CHANNELS;
                let body = json!({"channel": format!("test:{channel}"), "data": number, "key": format!("k{number}")});
                let results = super::transports::published(&address, &token, &body).await;
                // What is not acknowledged is said again, and is there once.
                if let Some(position) = results["results"][0]["position"].as_str() {
                    acknowledged.push((channel, position.to_owned(), number));
                    number += 1;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            acknowledged
        })
    };
    for name in ["live-1", "live-2"] {
        let began = Instant::now();
        fleet.drain_and_restart(name).await.unwrap();
        // The links to other children stand, and it does not wait for their end.
        assert!(began.elapsed() < DRAIN_TIMEOUT, "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stop.store(true, Relaxed);
    let acknowledged = publishing.await.unwrap();
    for channel in 0..CHANNELS {
        let body = json!({"channel": format!("test:{channel}"), "data": "end"});
        super::transports::published(&address, &token, &body).await;
    }
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    for follower in followers {
        let seen = follower.await.unwrap().unwrap();
        for channel in 0..CHANNELS {
            let name = json!(format!("test:{channel}"));
            let own: Vec<_> = seen.iter().filter(|one| one["channel"] == name).collect();
            let offsets: Vec<_> = own.iter().map(|one| position(one)).collect();
            for pair in offsets.windows(2) {
                assert_eq!(pair[0].0, pair[1].0, "one epoch: {pair:?}");
                assert_eq!(
                    pair[0].1 + 1,
                    pair[1].1,
                    "no hole, and nothing twice: {pair:?}"
                );
            }
            let first = offsets.first().map(|(_, offset)| *offset);
            for (of, position, number) in &acknowledged {
                let (_, offset) = position.split_once('-').unwrap();
                let offset: u64 = offset.parse().unwrap();
                // What was published before it came is not its own; what came after its end neither.
                let last = offsets.last().map(|(_, offset)| *offset);
                let expected = *of == channel && first <= Some(offset) && Some(offset) <= last;
                let there = own.iter().any(|one| one["data"] == json!(number));
                assert!(
                    !expected || there,
                    "{number} at {position} was acknowledged"
                );
            }
        }
    }
}

/// A node drains while somebody waits there without an end in sight.
async fn drained_beside(role: &str, path: &str) {
    let fleet = fleet("1");
    let (token, _) = super::transports::secrets(&fleet);
    let node = fleet.node(role);
    let mut connection = Connection::open(&node.http).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\nauthorization: Bearer {token}\r\n\r\n",
        node.http
    );
    connection.write(head.as_bytes()).await.unwrap();
    connection.take_until(b"\n\n").await.unwrap();
    let began = Instant::now();
    fleet.drain_and_restart(&node.name).await.unwrap();
    assert!(began.elapsed() < DRAIN_TIMEOUT, "{:?}", began.elapsed());
    // An end, and not a cut.
    connection.take_until(b"0\r\n\r\n").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hears_of_a_key_or_of_channels_does_not_hold_up_a_drain() {
    drained_beside("proxy", "/_live/changes?key=/a/file").await;
    drained_beside("live", "/count").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_during_a_drain_is_sent_away_at_once() {
    let fleet = fleet("1");
    let node = fleet.node("live");
    let mut idle = Connection::open(&node.http).await.unwrap();
    idle.get("/missing").await.unwrap();
    // A connection in the middle of a head is not ended.
    let mut late = Connection::open(&node.http).await.unwrap();
    let head = format!("GET /count HTTP/1.1\r\nhost: {}\r\n", node.http);
    late.write(head.as_bytes()).await.unwrap();
    let began = Instant::now();
    signal(node.pid, Signal::TERM).unwrap();
    assert!(idle.closed().await.unwrap(), "the drain has begun");
    late.write(b"accept: text/event-stream\r\n\r\n")
        .await
        .unwrap();
    let events = late.take_until(b"0\r\n\r\n").await.unwrap();
    assert!(events.contains("retry:"), "{events}");
    assert!(began.elapsed() < DRAIN_TIMEOUT, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_hears_of_a_key_and_that_something_was_lost() {
    let fleet = fleet("2");
    let (token, _) = super::transports::secrets(&fleet);
    let address = fleet.node("proxy").http;
    let mut proxy = Connection::open(&address).await.unwrap();
    let head = format!(
        "GET /_live/changes?key=/a/file HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    proxy.write(head.as_bytes()).await.unwrap();
    // What it kept until now may be old; from here on it hears everything.
    let event = proxy.take_until(b"}\n\n").await.unwrap();
    assert!(event.contains(r#"data: {"lost":true}"#), "{event}");
    let change = json!({"channel": "keys:/a/file", "data": "digest"});
    for _ in 0..3 {
        super::transports::published(&address, &token, &change).await;
        let event = proxy.take_until(b"}\n\n").await.unwrap();
        assert!(
            event.contains(r#"data: {"changed":"\"digest\""}"#),
            "{event}"
        );
    }
    for node in fleet.nodes("live") {
        for child in fleet.children(&node).unwrap() {
            signal(child, Signal::KILL).unwrap();
        }
    }
    let event = proxy.take_until(b"}\n\n").await.unwrap();
    assert!(event.contains(r#"data: {"lost":true}"#), "{event}");
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut said = json!(null);
    while !said["results"][0]["position"].is_string() {
        assert!(Instant::now() < deadline, "{said}");
        said = super::transports::published(&address, &token, &change).await;
    }
    loop {
        let event = proxy.take_until(b"}\n\n").await.unwrap();
        if event.contains("changed") {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_killed_costs_its_channels_their_history_and_everybody_hears_it() {
    let fleet = fleet("1");
    let address = fleet.node("proxy").http;
    let mut seen = Vec::new();
    let mut sockets = Vec::new();
    for key in 0..8 {
        let path = format!("/count?key={key}");
        let mut socket = Socket::channels(&address, &path).await.unwrap();
        for channel in 0..CHANNELS {
            let subscribe =
                json!({"id": channel, "subscribe": {"channel": format!("test:{channel}")}});
            socket.command(subscribe, &mut seen).await.unwrap();
        }
        sockets.push(socket);
    }
    let children = fleet.children(&fleet.node("live")).unwrap();
    signal(children[0], Signal::KILL).unwrap();
    let (mut broken, mut reset) = (0, 0);
    for socket in &mut sockets {
        // The dead one's own connections break; the other's go on, and hear which streams are lost.
        loop {
            match socket.object().await {
                Ok(object) if object["reset"].is_object() => {
                    reset += 1;
                    break;
                }
                Ok(_) => {}
                Err(_) => {
                    broken += 1;
                    break;
                }
            }
        }
    }
    assert!(broken > 0 && reset > 0, "{broken} broke, {reset} were told");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_a_nodes_certificate_speaks_to_a_child() {
    let fleet = fleet("1");
    let status = fleet.meta("live", "/status").await.unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    let address = status["child_addresses"][0].as_str().unwrap();
    let url = address.replace("http://", "https://");
    let file = |name: &str| fleet.info[name].as_str().unwrap().to_owned();
    let operator = [
        "--cert".to_owned(),
        file("cert"),
        "--key".to_owned(),
        file("key"),
    ];
    for certificate in [&[][..], &operator] {
        let asked = Instant::now();
        let curl = std::process::Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--insecure",
                "--max-time",
                "10",
                &url,
            ])
            .args(certificate)
            .output()
            .unwrap();
        assert!(!curl.status.success() && curl.stdout.is_empty(), "{curl:?}");
        assert!(
            asked.elapsed() < Duration::from_secs(5),
            "it waits for nobody: {curl:?}"
        );
    }
    // The children themselves go on.
    let mut seen = Vec::new();
    let address = fleet.node("proxy").http;
    for key in 0..4 {
        let mut socket = Socket::channels(&address, &format!("/count?key={key}"))
            .await
            .unwrap();
        for channel in 0..8 {
            let subscribe = json!({"id": 1, "subscribe": {"channel": format!("test:{channel}")}});
            let answer = socket.command(subscribe, &mut seen).await.unwrap();
            assert!(answer["ok"].is_object(), "{answer}");
        }
    }
}
