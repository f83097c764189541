//! Connections that outlive builds: what a handler is told and may do, and what becomes of it all when builds change.

mod autobahn;
mod board;
mod crowds;
mod faults;
mod handshakes;
mod kept;
mod malformed;
mod pages;
mod rights;
mod several;
mod swaps;
mod transports;

use protoplex_tests::{CHANNELS, Fleet, Socket};
use serde_json::json;
use std::time::Duration;

const LIVE: &str = "tests/builds/live.toml";

pub(crate) fn fleet() -> Fleet {
    Fleet::start_with(LIVE, &["--nodes", "app=0,live=1"]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_hears_what_comes_and_does_what_it_says() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let mut socket = Socket::open(&address, "/count?user=ann&subscribe=test:a,no:b")
        .await
        .unwrap();
    assert_eq!(socket.text().await.unwrap(), "subscribe no:b: forbidden");
    assert_eq!(socket.text().await.unwrap(), "opened websocket one");
    assert_eq!(socket.ask("hello").await.unwrap(), "hello");
    assert_eq!(socket.ask("count").await.unwrap(), "2 one");
    // To all who are subscribed, and so to itself.
    assert_eq!(
        socket.ask("publish test:a some text").await.unwrap(),
        "some text"
    );
    let mut other = Socket::open(&address, "/count?subscribe=test:a")
        .await
        .unwrap();
    other.text().await.unwrap();
    assert_eq!(socket.ask("publish test:a more").await.unwrap(), "more");
    assert_eq!(other.text().await.unwrap(), "more");
    assert_eq!(other.ask("publish test:a back").await.unwrap(), "back");
    assert_eq!(socket.text().await.unwrap(), "back");
    socket.send("unsubscribe test:a").await.unwrap();
    assert_eq!(socket.ask("count").await.unwrap(), "6 one");
    assert_eq!(other.ask("publish test:a alone").await.unwrap(), "alone");
    assert!(socket.is_silent(Duration::from_millis(200)).await);
    socket.send("close 4321").await.unwrap();
    let closed = socket.closed().await.unwrap().unwrap();
    assert_eq!(
        (u16::from(closed.code), closed.reason.as_str()),
        (4321, "as asked")
    );
    let refused = Socket::open(&address, "/count?refuse").await.unwrap_err();
    assert!(format!("{refused:#}").contains("403"), "{refused:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_may_not_ask_for_everything_and_a_trap_costs_its_connection_only() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let mut socket = Socket::open(&address, "/count").await.unwrap();
    let mut other = Socket::open(&address, "/count").await.unwrap();
    socket.text().await.unwrap();
    other.text().await.unwrap();
    socket.send("many").await.unwrap();
    socket.send("count").await.unwrap();
    let mut texts = 0;
    while socket.text().await.unwrap() == "x" {
        texts += 1;
    }
    assert_eq!(texts, 1_000, "the rest was refused");
    assert_eq!(other.ask("count").await.unwrap(), "1 one");
    for fatal in ["panic", "spin"] {
        let mut victim = Socket::open(&address, "/count").await.unwrap();
        victim.text().await.unwrap();
        victim.send(fatal).await.unwrap();
        let closed = victim.closed().await.unwrap().unwrap();
        assert_eq!(u16::from(closed.code), 1011, "{fatal}");
        // Its neighbours in that instance are opened again, and count from the beginning.
        assert_eq!(
            other.ask("count").await.unwrap(),
            "again lost websocket one"
        );
        assert_eq!(other.text().await.unwrap(), "1 one", "{fatal}");
    }
    fleet.wait_for_log("as asked").await;
    // One that goes before it hears of that is not opened again for its end.
    let reopened = fleet
        .metric("live", "protoplex_live_reopened_total")
        .await
        .unwrap();
    let mut victim = Socket::open(&address, "/count").await.unwrap();
    victim.text().await.unwrap();
    victim.send("panic").await.unwrap();
    victim.closed().await.unwrap();
    drop((socket, other));
    while fleet
        .metric("live", "protoplex_live_connections")
        .await
        .unwrap()
        > 0.0
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let now = fleet
        .metric("live", "protoplex_live_reopened_total")
        .await
        .unwrap();
    assert_eq!(now, reopened);
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_subscribed_to_published_on_and_resumed() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let mut seen = Vec::new();
    let mut ann = Socket::channels(&address, "/count?user=ann").await.unwrap();
    let opened = ann.object().await.unwrap();
    assert_eq!(opened, json!({"message": "opened websocket one"}));
    let subscribe = json!({"id": 1, "subscribe": {"channel": "test:a"}});
    let answer = ann.command(subscribe.clone(), &mut seen).await.unwrap();
    assert_eq!(answer["ok"]["members"], json!(["ann"]), "{answer}");
    assert_eq!(answer["ok"]["recovered"], json!(null));
    let start = answer["ok"]["position"].as_str().unwrap().to_owned();
    let mut bob = Socket::channels(&address, "/count?user=bob").await.unwrap();
    bob.object().await.unwrap();
    bob.command(subscribe, &mut seen).await.unwrap();
    assert_eq!(
        ann.object().await.unwrap(),
        json!({"channel": "test:a", "joined": "bob"})
    );
    let publish = |id: u64, data: &str, key: &str| json!({"id": id, "publish": {"channel": "test:a", "data": {"say": data}, "key": key}});
    let first = bob
        .command(publish(2, "one", "k1"), &mut seen)
        .await
        .unwrap();
    let again = bob
        .command(publish(3, "one", "k1"), &mut seen)
        .await
        .unwrap();
    assert_eq!(first["ok"], again["ok"], "the same key is the same message");
    let message = ann.object().await.unwrap();
    assert_eq!(message["data"], json!({"say": "one"}));
    assert_eq!(message["position"], first["ok"]["position"]);
    drop(ann);
    bob.command(publish(4, "two", "k2"), &mut seen)
        .await
        .unwrap();
    bob.command(publish(5, "three", "k3"), &mut seen)
        .await
        .unwrap();
    // She comes back before anybody hears that she was gone, and is given what she missed.
    let mut ann = Socket::channels(&address, "/count?user=ann").await.unwrap();
    ann.object().await.unwrap();
    let position = message["position"].as_str().unwrap();
    let back = json!({"id": 1, "subscribe": {"channel": "test:a", "from": position}});
    let answer = ann.command(back, &mut seen).await.unwrap();
    assert_eq!(answer["ok"]["recovered"], json!(true), "{answer}");
    for said in ["two", "three"] {
        assert_eq!(ann.object().await.unwrap()["data"], json!({"say": said}));
    }
    let (epoch, _) = start.split_once('-').unwrap();
    let other = format!("{}-0", &epoch[1..]);
    ann.command(
        json!({"id": 2, "unsubscribe": {"channel": "test:a"}}),
        &mut seen,
    )
    .await
    .unwrap();
    let lost = json!({"id": 3, "subscribe": {"channel": "test:a", "from": other}});
    let answer = ann.command(lost, &mut seen).await.unwrap();
    assert_eq!(answer["ok"]["recovered"], json!(false), "{answer}");
    let told = ann
        .command(json!({"id": 9, "send": "count"}), &mut seen)
        .await
        .unwrap();
    assert_eq!(told, json!({"id": 9, "ok": {}}));
    assert!(seen.contains(&json!({"message": "1 one"})), "{seen:?}");
    drop(ann);
    loop {
        let object = bob.object().await.unwrap();
        if object == json!({"channel": "test:a", "left": "ann"}) {
            break;
        }
        assert_eq!(
            object["joined"],
            json!(null),
            "nobody left in between: {object}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_may_not_do_is_refused_and_says_why() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let mut seen = Vec::new();
    let mut socket = Socket::channels(&address, "/count").await.unwrap();
    for (command, code) in [
        (
            json!({"id": 1, "subscribe": {"channel": "own:a"}}),
            "forbidden",
        ),
        (
            json!({"id": 1, "subscribe": {"channel": "signed:a"}}),
            "forbidden",
        ),
        (
            json!({"id": 1, "subscribe": {"channel": "no:a"}}),
            "unknown",
        ),
        (
            json!({"id": 1, "subscribe": {"channel": "test:"}}),
            "bad-request",
        ),
        (
            json!({"id": 1, "subscribe": {"channel": "test:a", "from": "x"}}),
            "bad-request",
        ),
        (
            json!({"id": 1, "publish": {"channel": "test:a", "data": 1}}),
            "forbidden",
        ),
        (
            json!({"id": 1, "publish": {"channel": "own:a", "data": 1}}),
            "forbidden",
        ),
        (
            json!({"id": 1, "presence": {"channel": "test:a"}}),
            "forbidden",
        ),
        (json!({"id": 1, "dance": {}}), "bad-request"),
        (json!({"id": 1}), "bad-request"),
        (json!({"subscribe": {"channel": "test:a"}}), "bad-request"),
    ] {
        socket.send(&command.to_string()).await.unwrap();
        let answer = loop {
            let object = socket.object().await.unwrap();
            if object["error"].is_object() {
                break object;
            }
            seen.push(object);
        };
        assert_eq!(answer["error"]["code"], json!(code), "{command}: {answer}");
    }
    socket
        .command(
            json!({"id": 2, "subscribe": {"channel": "test:a"}}),
            &mut seen,
        )
        .await
        .unwrap();
    let large = "x".repeat(65_537);
    let publish = json!({"id": 3, "publish": {"channel": "test:a", "data": large}});
    let answer = socket.command(publish, &mut seen).await.unwrap();
    assert_eq!(answer["error"]["code"], json!("too-large"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_above_its_limit_is_answered_at_once_by_every_transport() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let mut socket = Socket::open_with(&address, "/count", &[CHANNELS])
        .await
        .unwrap();
    let welcome = socket.object().await.unwrap();
    // A client that knows it need not try.
    assert_eq!(welcome["welcome"]["bytes_max"], json!(1_048_576));
    let mut seen = Vec::new();
    let giant = "x".repeat(1_048_577);
    let send = json!({"id": 1, "send": giant});
    let answer = socket.command(send, &mut seen).await.unwrap();
    assert_eq!(answer["error"]["code"], json!("too-large"), "{answer}");
    // The connection goes on.
    let count = json!({"id": 2, "send": "count"});
    let answer = socket.command(count, &mut seen).await.unwrap();
    assert!(answer["ok"].is_object(), "{answer}");
    assert!(seen.contains(&json!({"message": "1 one"})), "{seen:?}");
    let mut poll = transports::Poll::open(&address, "/count").await;
    let status = poll.say(&json!({"id": 1, "send": giant})).await;
    assert_eq!(status, 413);
    assert_eq!(poll.say(&json!({"id": 2, "send": "count"})).await, 202);
    // Nobody is read for ever, and without the channel protocol there is no answer.
    let colossal = "x".repeat((16 << 20) + 1);
    let _ = socket.send(&colossal).await;
    let closed = socket.closed().await.unwrap().unwrap();
    assert_eq!(u16::from(closed.code), 1009, "{closed:?}");
    let mut raw = Socket::open(&address, "/count").await.unwrap();
    raw.text().await.unwrap();
    raw.send(&giant).await.unwrap();
    let closed = raw.closed().await.unwrap().unwrap();
    assert_eq!(u16::from(closed.code), 1009, "{closed:?}");
}
