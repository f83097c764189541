//! Channels by server-sent events and by long polling, and messages of back ends by HTTP.

use super::{LIVE, fleet};
use protoplex_tests::{CHANNELS, Connection, Fleet, Response, Socket};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// Whatever is waited for has come by then, or never will.
const WAIT_MAX: Duration = Duration::from_secs(30);
pub(super) const POLL: (&str, &str) = ("protoplex-transport", "poll");

/// An open stream of events.
pub(super) struct Events(Connection);

impl Events {
    pub(super) async fn open(address: &str, path: &str, more: &str) -> Self {
        let mut connection = Connection::open(address).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n{more}\r\n"
        );
        connection.write(head.as_bytes()).await.unwrap();
        connection.take_until(b"\r\n\r\n").await.unwrap();
        Self(connection)
    }

    /// The next event: its id and its data.
    pub(super) async fn next(&mut self) -> (Option<String>, Value) {
        loop {
            let event = self.0.take_until(b"\n\n").await.unwrap();
            let field = |name: &str| {
                let mut lines = event.lines();
                lines
                    .find_map(|line| line.strip_prefix(name))
                    .map(str::to_owned)
            };
            if let Some(data) = field("data: ") {
                return (field("id: "), serde_json::from_str(&data).unwrap());
            }
        }
    }
}

pub(super) async fn post(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Response {
    let mut connection = Connection::open(address).await.unwrap();
    let body = body.to_string();
    connection
        .request("POST", path, headers, body.as_bytes())
        .await
        .unwrap()
}

/// A client that polls.
pub(super) struct Poll {
    connection: Connection,
    path: String,
    session: String,
    /// The last batch that came.
    ack: u64,
}

impl Poll {
    pub(super) async fn open(address: &str, path: &str) -> Self {
        Self::open_with(address, path, &[]).await
    }

    /// Opens a stream with more headers.
    pub(super) async fn open_with(address: &str, path: &str, more: &[(&str, &str)]) -> Self {
        let mut connection = Connection::open(address).await.unwrap();
        let headers = [&[POLL], more].concat();
        let opened = connection.request("POST", path, &headers, b"[]").await;
        let opened = json_of(&opened.unwrap());
        let session = opened[0]["welcome"]["session"].as_str().unwrap();
        Self {
            session: session.to_owned(),
            ack: 0,
            path: path.to_owned(),
            connection,
        }
    }

    /// Says something; the status of the answer.
    pub(super) async fn say(&mut self, commands: &Value) -> u16 {
        self.say_text(&commands.to_string()).await
    }

    /// Says something that may be no JSON.
    pub(super) async fn say_text(&mut self, commands: &str) -> u16 {
        let named = [("protoplex-session", &*self.session)];
        let said = self
            .connection
            .request("POST", &self.path, &named, commands.as_bytes());
        said.await.unwrap().status
    }

    /// Objects that came since, or the status of the refusal.
    pub(super) async fn next(&mut self) -> Result<Vec<Value>, u16> {
        let ack = self.ack.to_string();
        let named = [
            POLL,
            ("protoplex-session", &*self.session),
            ("protoplex-ack", &*ack),
        ];
        let polled = self.connection.request("GET", &self.path, &named, b"");
        let polled = polled.await.unwrap();
        if polled.status != 200 {
            return Err(polled.status);
        }
        let batch = json_of(&polled);
        self.ack = batch["batch"].as_u64().unwrap();
        Ok(batch["objects"].as_array().unwrap().clone())
    }
}

fn json_of(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{response:?}");
    serde_json::from_slice(&response.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_carry_channels_and_commands_come_by_requests() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let mut events = Events::open(&address, "/count?user=ann", "").await;
    let (_, welcome) = events.next().await;
    let session = welcome["welcome"]["session"].as_str().unwrap().to_owned();
    assert_eq!(welcome["welcome"]["user"], json!("ann"));
    assert_eq!(
        events.next().await.1,
        json!({"message": "opened event-stream one"})
    );
    let named = [("protoplex-session", session.as_str())];
    let commands = json!([
        {"id": 1, "subscribe": {"channel": "test:e"}},
        {"id": 2, "publish": {"channel": "test:e", "data": "by event"}},
        {"id": 3, "send": "count"},
    ]);
    let done = post(&address, "/count", &named, &commands).await;
    assert_eq!(done.status, 202, "{done:?}");
    // What is for its handler does not wait for what another child has to answer.
    let (mut told, mut id, mut message) = (Vec::new(), None, json!(null));
    while told.len() < 4 || message.is_null() {
        let (of, object) = events.next().await;
        if object["channel"].is_null() {
            told.push(object);
        } else if object["data"].is_string() {
            (id, message) = (of, object);
        }
        assert!(told.len() <= 4, "{told:?}");
    }
    for answer in [1, 2, 3] {
        let is_it = |one: &&Value| one["id"] == json!(answer) && one["ok"].is_object();
        assert!(told.iter().any(|one| is_it(&one)), "{answer}: {told:?}");
    }
    assert!(told.contains(&json!({"message": "1 one"})), "{told:?}");
    assert_eq!(message["data"], json!("by event"));
    let position = message["position"].as_str().unwrap();
    assert_eq!(id, Some(format!("test:e@{position}")));
    drop(events);
    let gone = loop {
        let answer = post(&address, "/count", &named, &json!([])).await;
        if answer.status != 202 {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(gone.status, 410, "{gone:?}");
    // A plain client comes back by the id of what it saw last, where its handler subscribes it.
    let mut other = Socket::open(&address, "/count?subscribe=test:e")
        .await
        .unwrap();
    other.text().await.unwrap();
    other.ask("publish test:e missed").await.unwrap();
    let last = format!("last-event-id: test:e@{position}\r\n");
    let mut events = Events::open(&address, "/count?user=ann&subscribe=test:e", &last).await;
    events.next().await;
    let (mut subscribed, mut missed) = (None, false);
    let both = async {
        while subscribed.is_none() || !missed {
            let (_, object) = events.next().await;
            missed |= object["data"] == json!("missed");
            if object["subscribed"].is_object() {
                subscribed = Some(object);
            }
        }
    };
    // Signs of life come all the time, and who comes and goes is told in between.
    let came = timeout(WAIT_MAX, both).await;
    assert!(came.is_ok(), "{subscribed:?}, the message: {missed}");
    let subscribed = subscribed.unwrap();
    assert_eq!(
        subscribed["subscribed"]["recovered"],
        json!(true),
        "{subscribed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_polls_loses_nothing_and_a_batch_is_given_until_it_is_acknowledged() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let first = json_of(&post(&address, "/count?user=ann", &[POLL], &json!([])).await);
    let session = first[0]["welcome"]["session"].as_str().unwrap().to_owned();
    assert_eq!(first[1], json!({"message": "opened long-poll one"}));
    let named = [POLL, ("protoplex-session", session.as_str())];
    let subscribe = json!({"id": 1, "subscribe": {"channel": "test:p"}});
    assert_eq!(
        post(&address, "/count", &named, &subscribe).await.status,
        202
    );
    let poll = |ack: u64| {
        let (address, session) = (address.clone(), session.clone());
        async move {
            let ack = ack.to_string();
            let named = [
                POLL,
                ("protoplex-session", &session),
                ("protoplex-ack", &ack),
            ];
            let mut connection = Connection::open(&address).await.unwrap();
            connection
                .request("GET", "/count", &named, b"")
                .await
                .unwrap()
        }
    };
    let one = json_of(&poll(0).await);
    assert_eq!(one["batch"], json!(1));
    assert_eq!(one["objects"][0]["ok"]["members"], json!(["ann"]), "{one}");
    // The answer got lost: it is given again.
    assert_eq!(json_of(&poll(0).await), one);
    let waiting = tokio::spawn(poll(1));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished(), "there is nothing to tell yet");
    let publish = json!({"id": 2, "publish": {"channel": "test:p", "data": [1, 2]}});
    post(&address, "/count", &named, &publish).await;
    let two = json_of(&waiting.await.unwrap());
    assert_eq!(two["batch"], json!(2));
    assert_eq!(two["objects"][0]["data"], json!([1, 2]), "{two}");
    post(
        &address,
        "/count",
        &named,
        &json!({"id": 3, "send": "close 4500"}),
    )
    .await;
    let (mut acked, mut last) = (2, json!(null));
    let over = loop {
        let answer = poll(acked).await;
        if answer.status != 200 {
            break answer;
        }
        let batch = json_of(&answer);
        acked = batch["batch"].as_u64().unwrap();
        last = batch["objects"].as_array().unwrap().last().unwrap().clone();
    };
    assert_eq!(over.status, 410, "{over:?}");
    // It does not come back by this: `client.js` goes by the code, whatever the transport.
    assert_eq!(
        last,
        json!({"closed": {"code": 4500, "reason": "as asked"}})
    );
    fleet.wait_for_log("4500 as asked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_events_says_with_which_code_it_is_closed() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let mut events = Events::open(&address, "/count", "").await;
    let (_, welcome) = events.next().await;
    let session = welcome["welcome"]["session"].as_str().unwrap();
    events.next().await;
    let close = json!({"send": "close 4501"});
    post(
        &address,
        "/count",
        &[("protoplex-session", session)],
        &close,
    )
    .await;
    let closed = json!({"closed": {"code": 4501, "reason": "as asked"}});
    assert_eq!(events.next().await.1, closed);
    fleet.wait_for_log("4501 as asked").await;
}

/// Takes one message after another, with a pause: more slowly than they come.
async fn slow_client(address: &str) -> Socket {
    let stream = tokio::net::TcpSocket::new_v4().unwrap();
    // What waits in the network is what the client is behind by.
    stream.set_recv_buffer_size(32 << 10).unwrap();
    let stream = stream.connect(address.parse().unwrap()).await.unwrap();
    Socket::open_over(stream, address, "/count", &[CHANNELS])
        .await
        .unwrap()
}

/// Publishes large messages until it is ended.
async fn floods(address: String, channel: &str) {
    let mut socket = Socket::channels(&address, "/count").await.unwrap();
    let mut seen = Vec::new();
    let subscribe = json!({"id": 1, "subscribe": {"channel": channel}});
    socket.command(subscribe, &mut seen).await.unwrap();
    loop {
        let data = "x".repeat(60_000);
        let publish = json!({"id": 2, "publish": {"channel": channel, "data": data}});
        socket.command(publish, &mut seen).await.unwrap();
        seen.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_always_behind_is_heard_and_not_taken_for_dead() {
    let fleet = fleet();
    let address = fleet.node("live").http;
    let mut slow = slow_client(&address).await;
    let mut seen = Vec::new();
    let subscribe = json!({"id": 1, "subscribe": {"channel": "latest:a"}});
    slow.command(subscribe, &mut seen).await.unwrap();
    let flood = tokio::spawn(floods(address, "latest:a"));
    // Several times what leaves signs of life unanswered.
    let behind_until = Instant::now() + Duration::from_secs(7);
    let (mut is_asked, mut is_answered) = (false, false);
    while !(is_answered && Instant::now() > behind_until) {
        let object = slow.object().await.unwrap();
        is_answered |= object["id"] == json!(2);
        if !is_asked && object["data"].is_string() {
            slow.send(r#"{"id":2,"ping":{}}"#).await.unwrap();
            is_asked = true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(Instant::now() < behind_until + WAIT_MAX, "it is not heard");
    }
    assert!(!flood.is_finished(), "nobody else is held up");
    flood.abort();
}

/// Secrets of the running fleet, as `up` made them.
pub(super) fn secrets(fleet: &Fleet) -> (String, String) {
    let text = std::fs::read(fleet.data().join("keys/live.json")).unwrap();
    let all: Value = serde_json::from_slice(&text).unwrap();
    let one = |name: &str| all[name].as_str().unwrap().to_owned();
    (one("api_token"), one("token_key"))
}

#[tokio::test(flavor = "multi_thread")]
async fn back_ends_publish_by_http_with_the_token_and_without_it_nobody_does() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let (token, _) = secrets(&fleet);
    let mut socket = Socket::open(&address, "/count?user=ann&subscribe=test:h")
        .await
        .unwrap();
    socket.text().await.unwrap();
    let bearer = format!("Bearer {token}");
    let with = [("authorization", bearer.as_str())];
    let one = json!({"channel": "test:h", "data": {"n": 1}, "key": "a"});
    for wrong in [
        "",
        "Bearer ",
        "Bearer x",
        "Basic x",
        &bearer[..bearer.len() - 1],
    ] {
        let refused = post(
            &address,
            "/_live/publish",
            &[("authorization", wrong)],
            &one,
        )
        .await;
        assert_eq!(refused.status, 401, "{wrong}: {refused:?}");
    }
    let first = json_of(&post(&address, "/_live/publish", &with, &one).await);
    let again = json_of(&post(&address, "/_live/publish", &with, &one).await);
    assert_eq!(first, again);
    assert_eq!(socket.text().await.unwrap(), r#"{"n":1}"#);
    let batch = json!([
        {"channel": "test:h", "data": 2},
        {"channel": "no:h", "data": 3},
        {"channel": "test:h", "data": "x".repeat(65_536)},
        {"channel": "test:h", "data": 4},
    ]);
    let results = json_of(&post(&address, "/_live/publish", &with, &batch).await);
    let results = results["results"].as_array().unwrap();
    let codes: Vec<_> = results
        .iter()
        .map(|one| one["error"]["code"].as_str())
        .collect();
    assert_eq!(codes, [None, Some("unknown"), Some("too-large"), None]);
    assert_eq!(socket.text().await.unwrap(), "2");
    assert_eq!(socket.text().await.unwrap(), "4");
    let of = json!({"channel": "test:h"});
    let there = json_of(&post(&address, "/_live/presence", &with, &of).await);
    assert_eq!(there, json!({"members": ["ann"]}));
    let many: Vec<_> = (0..1_001)
        .map(|n| json!({"channel": "test:h", "data": n}))
        .collect();
    let refused = post(&address, "/_live/publish", &with, &json!(many)).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    let large = json!({"channel": "test:h", "data": "x".repeat(4 << 20)});
    let refused = post(&address, "/_live/publish", &with, &large).await;
    assert_eq!(refused.status, 413, "{refused:?}");
}

/// Answer of the HTTP API to a message.
pub(super) async fn published(address: &str, token: &str, body: &Value) -> Value {
    let bearer = format!("Bearer {token}");
    let with = [("authorization", bearer.as_str())];
    let answer = post(address, "/_live/publish", &with, body).await;
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// A token as a back end signs it (RFC 7519).
pub(super) fn signed(key: &str, claims: &Value) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
    use hmac::Mac as _;
    let head = BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let said = format!("{head}.{}", BASE64.encode(claims.to_string()));
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(said.as_bytes());
    format!("{said}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

/// A token without a signature, as some libraries once took it.
fn unsigned(claims: &Value) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
    let head = BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#);
    format!("{head}.{}.", BASE64.encode(claims.to_string()))
}

/// The time, as tokens have it.
pub(super) fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_token_opens_its_channel_for_its_time() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let (_, key) = secrets(&fleet);
    let mut seen = Vec::new();
    let mut socket = Socket::channels(&address, "/count?user=ann").await.unwrap();
    let subscribe =
        |token: String| json!({"id": 1, "subscribe": {"channel": "signed:a", "token": token}});
    // Those that are refused are not refused for their time.
    let good = json!({"channel": "signed:a", "sub": "ann", "exp": now_s() + 60});
    let other = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    for (token, code) in [
        (signed("another key of enough bytes", &good), "forbidden"),
        (
            signed(&key, &other("channel", json!("signed:b"))),
            "forbidden",
        ),
        (signed(&key, &other("sub", json!("bob"))), "forbidden"),
        (signed(&key, &other("exp", json!(now_s() - 1))), "expired"),
        (signed(&key, &json!({"channel": "signed:a"})), "forbidden"),
        (unsigned(&good), "forbidden"),
        ("rubbish".to_owned(), "forbidden"),
    ] {
        let answer = socket
            .command(subscribe(token.clone()), &mut seen)
            .await
            .unwrap();
        assert_eq!(answer["error"]["code"], json!(code), "{token}: {answer}");
    }
    let now = now_s();
    let short = signed(&key, &other("exp", json!(now + 4)));
    let answer = socket.command(subscribe(short), &mut seen).await.unwrap();
    assert!(answer["ok"].is_object(), "{answer}");
    // Another token in time, and it goes on; then none.
    let longer = signed(&key, &other("exp", json!(now + 8)));
    let refresh = json!({"id": 2, "refresh": {"channel": "signed:a", "token": longer}});
    let answer = socket.command(refresh, &mut seen).await.unwrap();
    assert!(answer["ok"].is_object(), "{answer}");
    let ended = loop {
        let object = socket.object().await.unwrap();
        if object["ended"].is_object() {
            break object;
        }
    };
    assert_eq!(ended["ended"]["code"], json!("expired"), "{ended}");
    assert!(
        now_s() >= now + 8,
        "the first token's end is not the last one's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tokens_end_is_forgotten_with_the_subscription_that_it_opened() {
    let fleet = fleet();
    let (_, key) = secrets(&fleet);
    let mut seen = Vec::new();
    let mut socket = Socket::channels(&fleet.node("proxy").http, "/count?user=ann")
        .await
        .unwrap();
    let token = |channel: &str, lives_s| {
        let exp = now_s() + lives_s;
        signed(&key, &json!({"channel": channel, "sub": "ann", "exp": exp}))
    };
    let with = |verb: &str, channel: &str, lives_s| {
        let token = token(channel, lives_s);
        json!({"id": 1, verb: {"channel": channel, "token": token}})
    };
    for command in [
        with("subscribe", "signed:short", 3),
        json!({"id": 2, "unsubscribe": {"channel": "signed:short"}}),
        json!({"id": 3, "send": "subscribe signed:short"}),
        with("subscribe", "signed:a", 6_000),
        with("refresh", "signed:a", 9_000),
        with("subscribe", "signed:b", 6_000),
        with("subscribe", "signed:c", 6_000),
        json!({"id": 4, "unsubscribe": {"channel": "signed:b"}}),
        json!({"id": 5, "send": "unsubscribe signed:c"}),
    ] {
        let answer = socket.command(command.clone(), &mut seen).await.unwrap();
        assert!(answer["ok"].is_object(), "{command}: {answer}");
    }
    // What its handler subscribes does not end with a token that opened it before.
    let over = tokio::time::Instant::now() + Duration::from_secs(5);
    while let Ok(object) = tokio::time::timeout_at(over, socket.object()).await {
        let object = object.unwrap();
        assert!(!object["ended"].is_object(), "{object}");
    }
    let tokens = || async {
        let tokens = fleet.metric("live", "protoplex_live_tokens").await;
        tokens.unwrap()
    };
    assert_eq!(tokens().await, 1.0, "of the one that is subscribed");
    drop(socket);
    let none = async {
        while tokens().await > 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(WAIT_MAX, none).await.is_ok(), "nobody is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_for_pages_is_served_and_other_requests_are_told_what_this_is() {
    let fleet = Fleet::start_with(LIVE, &["--nodes", "app=0,live=1"]).unwrap();
    let mut connection = Connection::open(&fleet.node("proxy").http).await.unwrap();
    let script = connection
        .request("GET", "/_live/client.js", &[], b"")
        .await
        .unwrap();
    assert_eq!(script.status, 200);
    assert!(
        script.text().contains("export function connect"),
        "{}",
        script.text()
    );
    let tag = script.header("etag").unwrap().to_owned();
    let known = [("if-none-match", tag.as_str())];
    let same = connection
        .request("GET", "/_live/client.js", &known, b"")
        .await
        .unwrap();
    assert_eq!(same.status, 304);
    for (method, path, status) in [
        ("POST", "/_live/client.js", 405),
        ("GET", "/_live/publish", 405),
        ("GET", "/_live/other", 404),
        ("GET", "/count", 426),
        ("GET", "/nothing", 404),
    ] {
        let answer = connection.request(method, path, &[], b"").await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        let required = (status == 426).then_some("websocket");
        assert_eq!(answer.header("upgrade"), required, "{path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_http2_is_a_websocket_like_any_other() {
    let fleet = fleet();
    for role in ["live", "proxy"] {
        let address = fleet.node(role).http;
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let driven = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        while !client.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut request = http::Request::builder()
            .method("CONNECT")
            .uri(format!("http://{address}/count"))
            .version(http::Version::HTTP_2)
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        let protocol = h2::ext::Protocol::from_static("websocket");
        request.extensions_mut().insert(protocol);
        let (response, mut send) = client.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200, "{role}: {response:?}");
        let mut receive = response.into_body();
        let mut seen = Vec::new();
        // A masked frame of text, with a mask of zeros.
        let frame = [&[0x81, 0x85, 0, 0, 0, 0][..], b"count"].concat();
        send.send_data(frame.into(), false).unwrap();
        while !seen.ends_with(b"1 one") {
            let data = receive.data().await.expect("it goes on").unwrap();
            receive.flow_control().release_capacity(data.len()).unwrap();
            seen.extend_from_slice(&data);
        }
        assert!(
            seen.windows(20).any(|text| text == b"opened websocket one"),
            "{seen:?}"
        );
        driven.abort();
    }
}
