//! A build that takes away a right, or a route, takes it from those who have it.

use super::{
    LIVE,
    swaps::Variant,
    transports::{Events, Poll, now_s, post, secrets, signed},
};
use protoplex_tests::{Fleet, Socket};
use serde_json::{Value, json};

/// What back ends are told of a message to that channel, and of its members.
async fn told(address: &str, token: &str, channel: &str) -> [Value; 2] {
    let bearer = format!("Bearer {token}");
    let named = [("authorization", bearer.as_str())];
    let publish = json!({"channel": channel, "data": "by a back end"});
    let published = post(address, "/_live/publish", &named, &publish).await;
    let of_it = json!({"channel": channel});
    let members = post(address, "/_live/presence", &named, &of_it).await;
    let [published, members]: [Value; 2] =
        [published, members].map(|answer| serde_json::from_slice(&answer.body).unwrap());
    [published["results"][0].clone(), members]
}

/// The next message of a channel that is no notice.
async fn message(socket: &mut Socket) -> Value {
    loop {
        let object = socket.object().await.unwrap();
        if object["data"].is_string() {
            return object;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_narrows_a_namespace_ends_what_it_refuses() {
    let fleet = Fleet::start_with(LIVE, &["--nodes", "app=0,live=2"]).unwrap();
    let address = fleet.node("proxy").http;
    let live = fleet.node("live").http;
    let (token, key) = secrets(&fleet);
    let with_token = |id: u64, channel: &str| {
        let token = signed(&key, &json!({"channel": channel, "exp": now_s() + 600}));
        json!({"id": id, "subscribe": {"channel": channel, "token": token}})
    };
    let mut seen = Vec::new();
    // On several children, so that each channel has an owner and mirrors.
    let mut own = Vec::new();
    for at in ["a", "b", "c"] {
        let path = format!("/count?key={at}");
        let mut socket = Socket::channels(&address, &path).await.unwrap();
        for command in [
            json!({"id": 1, "subscribe": {"channel": "test:x"}}),
            json!({"id": 2, "subscribe": {"channel": "latest:y"}}),
            with_token(3, "signed:s"),
        ] {
            let answer = socket.command(command, &mut seen).await.unwrap();
            assert!(answer["ok"].is_object(), "{answer}");
        }
        own.push(socket);
    }
    let mut by_handler = Socket::channels(&address, "/count?key=d&subscribe=test:x,signed:s")
        .await
        .unwrap();
    let (mut told_of, mut raw) = (
        0,
        Socket::open(&address, "/count?subscribe=test:x")
            .await
            .unwrap(),
    );
    while told_of < 2 {
        told_of += usize::from(by_handler.object().await.unwrap()["subscribed"].is_object());
    }
    raw.text().await.unwrap();
    let narrow = Variant::new(&[
        (
            "[live.namespaces.test]\nsubscribe = \"anyone\"",
            "[live.namespaces.test]\nsubscribe = \"token\"",
        ),
        (
            "[live.namespaces.signed]\nsubscribe = \"token\"",
            "[live.namespaces.signed]\nsubscribe = \"handlers\"",
        ),
        (
            "[live.namespaces.latest]\nsubscribe = \"anyone\"\npublish = \"subscribers\"\noverflow = \"latest-only\"\n",
            "",
        ),
    ]);
    narrow.push(&fleet);
    for socket in &mut own {
        let mut ended = std::collections::BTreeMap::new();
        while ended.len() < 3 {
            let object = socket.object().await.unwrap();
            if object["ended"].is_object() {
                let channel = object["channel"].as_str().unwrap().to_owned();
                ended.insert(
                    channel,
                    object["ended"]["code"].as_str().unwrap().to_owned(),
                );
            }
        }
        let expected = [
            ("latest:y", "unknown"),
            ("signed:s", "forbidden"),
            ("test:x", "forbidden"),
        ];
        let expected = expected.map(|(channel, code)| (channel.to_owned(), code.to_owned()));
        assert_eq!(ended, expected.into());
    }
    // Back ends are told the same of a channel that had subscribers and of one that never was.
    let before = told(&live, &token, "latest:y").await;
    assert_eq!(before, told(&live, &token, "latest:new").await);
    assert!(
        before
            .iter()
            .all(|one| one["error"]["code"] == json!("unknown")),
        "{before:?}"
    );
    for channel in ["test:x", "signed:s"] {
        let [published, _] = told(&live, &token, channel).await;
        assert!(published["position"].is_string(), "{published}");
        let message = message(&mut by_handler).await;
        assert_eq!(message["channel"], json!(channel));
    }
    assert_eq!(raw.text().await.unwrap(), r#""by a back end""#);
    for socket in &mut own {
        seen.clear();
        for (command, code) in [
            (
                json!({"id": 4, "publish": {"channel": "test:x", "data": 1}}),
                "forbidden",
            ),
            (
                json!({"id": 5, "subscribe": {"channel": "test:x"}}),
                "forbidden",
            ),
            (
                json!({"id": 6, "subscribe": {"channel": "latest:y"}}),
                "unknown",
            ),
        ] {
            let answer = socket.command(command, &mut seen).await.unwrap();
            assert_eq!(answer["error"]["code"], json!(code), "{answer}");
        }
        assert!(seen.iter().all(|one| one["data"].is_null()), "{seen:?}");
        let answer = socket.command(with_token(7, "test:x"), &mut seen).await;
        assert!(answer.unwrap()["ok"].is_object());
    }
    // The rules are as before: what ended may begin again, and what was opened stays.
    Variant::new(&[]).push(&fleet);
    for socket in &mut own {
        let again = json!({"id": 8, "subscribe": {"channel": "latest:y"}});
        let answer = socket.command(again, &mut seen).await.unwrap();
        assert!(answer["ok"].is_object(), "{answer}");
    }
    for channel in ["test:x", "latest:y"] {
        let [published, _] = told(&live, &token, channel).await;
        assert!(published["position"].is_string(), "{published}");
        for socket in &mut own {
            assert_eq!(message(socket).await["channel"], json!(channel));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_has_a_key_for_back_ends_as_for_clients() {
    let fleet = super::fleet();
    let address = fleet.node("live").http;
    let (token, _) = secrets(&fleet);
    for channel in ["test:", "test", ":a", ""] {
        let all = told(&address, &token, channel).await;
        let are_refused = all
            .iter()
            .all(|one| one["error"]["code"] == json!("bad-request"));
        assert!(are_refused, "{channel}: {all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_route_is_gone_goes_on_until_the_deadline() {
    let more = ["--nodes", "app=0,live=1", "--drain-timeout", "5"];
    let fleet = Fleet::start_with(LIVE, &more).unwrap();
    let address = fleet.node("proxy").http;
    let mut poll = Poll::open(&address, "/count").await;
    let mut events = Events::open(&address, "/count", "").await;
    let (_, welcome) = events.next().await;
    let session = welcome["welcome"]["session"].as_str().unwrap().to_owned();
    events.next().await;
    Variant::new(&[("path = \"/count\"", "path = \"/other\"")]).push(&fleet);
    let count = json!({"id": 1, "send": "count"});
    assert_eq!(poll.say(&count).await, 202);
    let named = [("protoplex-session", session.as_str())];
    assert_eq!(post(&address, "/count", &named, &count).await.status, 202);
    assert_eq!(events.next().await.1, json!({"message": "1 one"}));
    let (mut all, mut closed) = (Vec::new(), false);
    let refused = loop {
        match poll.next().await {
            Ok(objects) => {
                closed |= objects
                    .iter()
                    .any(|one| one["closed"]["code"] == json!(1001));
                all.extend(objects);
            }
            Err(status) => break status,
        }
    };
    assert!(all.contains(&json!({"message": "1 one"})), "{all:?}");
    assert!(closed, "it is told the end: {all:?}");
    assert_eq!(refused, 404, "there is no session any more, and no route");
    // Whoever comes now finds nothing.
    let other = post(&address, "/count", &named, &count).await;
    assert_eq!(other.status, 404, "{other:?}");
}
