//! Channels that a client keeps when a handler hides it, when it may not have one more, and when it has missed more
//! than can wait for it.

use super::{fleet, swaps::Variant, transports};
use protoplex_tests::{Connection, Fleet, Socket};
use serde_json::{Value, json};
use std::time::Duration;

/// Each with a history of eight messages of 30 KiB: four of them can wait for a connection beside each other.
const BUSY: [&str; 5] = ["test:0", "test:1", "test:2", "test:3", "test:4"];
const MESSAGES: usize = 8;
const MESSAGE_BYTES: usize = 30 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn one_whom_a_handler_hides_stays_subscribed() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let mut seen = Vec::new();
    let mut bob = Socket::channels(&address, "/count?user=bob").await.unwrap();
    bob.object().await.unwrap();
    let subscribe = json!({"id": 1, "subscribe": {"channel": "test:a"}});
    bob.command(subscribe, &mut seen).await.unwrap();
    let mut ann = Socket::channels(&address, "/count?user=ann&subscribe=test:a")
        .await
        .unwrap();
    while ann.object().await.unwrap()["message"].is_null() {}
    assert_eq!(bob.object().await.unwrap()["joined"], json!("ann"));
    for said in ["publish test:a 1", "hide test:a", "publish test:a 2"] {
        ann.send(&json!({"send": said}).to_string()).await.unwrap();
    }
    // By the subscription that she has: she is told of no other.
    for data in [1, 2] {
        let message = ann.object().await.unwrap();
        assert_eq!(message["data"], json!(data), "{message}");
        assert_eq!(bob.object().await.unwrap()["data"], json!(data));
    }
    for socket in [&mut ann, &mut bob] {
        assert_eq!(socket.object().await.unwrap()["left"], json!("ann"));
    }
    let show = json!({"send": "show test:a"}).to_string();
    ann.send(&show).await.unwrap();
    for socket in [&mut ann, &mut bob] {
        assert_eq!(socket.object().await.unwrap()["joined"], json!("ann"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whom_a_handler_cannot_subscribe_hears_of_it() {
    let few = Variant::new(&[("ping_ms = 1000", "ping_ms = 1000\nsubscriptions_max = 2")]);
    let fleet = Fleet::start_with(few.path(), &["--nodes", "app=0,live=1"]).unwrap();
    let address = fleet.node("proxy").http;
    let path = "/count?subscribe=test:a,test:b,test:c";
    let mut socket = Socket::channels(&address, path).await.unwrap();
    // In whatever order: other children may have to be asked for the first two.
    let (mut subscribed, mut ended) = (Vec::new(), Value::Null);
    while subscribed.len() < 2 || ended.is_null() {
        let object = socket.object().await.unwrap();
        if let Some(channel) = object["subscribed"]["channel"].as_str() {
            subscribed.push(channel.to_owned());
        } else if object["ended"].is_object() {
            ended = object;
        }
    }
    subscribed.sort();
    assert_eq!(subscribed, ["test:a", "test:b"]);
    assert_eq!(ended["channel"], json!("test:c"), "{ended}");
    assert_eq!(ended["ended"]["code"], json!("too-many"), "{ended}");
    // One that has no words for it comes back, when there may be room.
    let mut bare = Socket::open(&address, path).await.unwrap();
    let closed = bare.closed().await.unwrap().unwrap();
    assert_eq!(u16::from(closed.code), 1013, "{closed:?}");
}

/// Objects that wait for a client that polls, until nothing has come for a while.
async fn polled(address: &str, session: &str) -> Vec<Value> {
    let (mut all, mut acked) = (Vec::new(), 0);
    loop {
        let ack = acked.to_string();
        let named = [
            transports::POLL,
            ("protoplex-session", session),
            ("protoplex-ack", &ack),
        ];
        let mut connection = Connection::open(address).await.unwrap();
        let answer = connection.request("GET", "/count", &named, b"");
        let Ok(answer) = tokio::time::timeout(Duration::from_secs(2), answer).await else {
            return all;
        };
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let batch: Value = serde_json::from_slice(&answer.body).unwrap();
        acked = batch["batch"].as_u64().unwrap();
        all.extend(batch["objects"].as_array().unwrap().iter().cloned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_has_missed_more_than_can_wait_is_told_so_and_goes_on() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let (token, _) = transports::secrets(&fleet);
    let mut subscribes = Vec::new();
    for (id, channel) in BUSY.iter().enumerate() {
        let body = json!({"channel": channel, "data": "first"});
        let said = transports::published(&address, &token, &body).await;
        let from = &said["results"][0]["position"];
        subscribes.push(json!({"id": id, "subscribe": {"channel": channel, "from": from}}));
        let body = json!({"channel": channel, "data": "x".repeat(MESSAGE_BYTES)});
        for _ in 0..MESSAGES {
            transports::published(&address, &token, &body).await;
        }
    }
    let opened = transports::post(&address, "/count", &[transports::POLL], &json!([])).await;
    let opened: Value = serde_json::from_slice(&opened.body).unwrap();
    let session = opened[0]["welcome"]["session"].as_str().unwrap();
    // At once, and nothing is read meanwhile.
    let named = [transports::POLL, ("protoplex-session", session)];
    let said = transports::post(&address, "/count", &named, &json!(subscribes)).await;
    assert_eq!(said.status, 202, "{said:?}");
    // What four of them missed waits. The fifth's answer may come when some of that has been read.
    let all_but_one = (BUSY.len() - 1) * MESSAGES * MESSAGE_BYTES;
    fleet
        .wait_for_metric("live", "protoplex_live_waiting_bytes", |bytes| {
            bytes >= all_but_one as f64
        })
        .await;
    let objects = polled(&address, session).await;
    let answers = objects.iter().filter(|object| object["ok"].is_object());
    let recovered: Vec<_> = answers
        .map(|answer| answer["ok"]["recovered"].as_bool().unwrap())
        .collect();
    assert_eq!(
        recovered.len(),
        BUSY.len(),
        "each is answered: {recovered:?}"
    );
    let whole = recovered.iter().filter(|recovered| **recovered).count();
    assert!(whole >= BUSY.len() - 1, "{recovered:?}");
    let messages = objects.iter().filter(|object| object["data"].is_string());
    assert_eq!(messages.count(), whole * MESSAGES);
}
