//! Commands that cannot be done: who sent one is told at once, by its id.

use super::{
    fleet,
    transports::{Events, Poll},
};
use protoplex_tests::{Connection, Socket};
use serde_json::{Value, json};

/// Commands that say nothing that can be done, as programs get them wrong; their ids are 1, 2, and so on.
const MALFORMED: [&str; 7] = [
    r#"{"id":1,"publish":{"channel":"test:a","key":"k"}}"#,
    r#"{"id":2,"publish":{"channel":"test:a","data":1,"key":5}}"#,
    r#"{"id":3,"presence":{}}"#,
    r#"{"id":4,"publish":{"channel":"test:\ud800","data":1}}"#,
    r#"{"id":5}"#,
    r#"{"id":6,"ping":{},"send":1}"#,
    r#"{"id":7,"subscribe":{"channel":"test:a"},"more":1}"#,
];

/// Notes an answer; whether all have come.
fn is_answered(object: &Value, left: &mut Vec<u64>) -> bool {
    let Some(id) = object["id"].as_u64() else {
        return left.is_empty();
    };
    assert_eq!(object["error"]["code"], json!("bad-request"), "{object}");
    left.retain(|one| *one != id);
    left.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_command_is_answered_by_its_id_over_every_transport() {
    let fleet = fleet();
    let address = fleet.node("proxy").http;
    let all = || (1..=MALFORMED.len() as u64).collect::<Vec<_>>();
    let array = format!("[{}]", MALFORMED.join(","));
    let mut socket = Socket::channels(&address, "/count").await.unwrap();
    for command in MALFORMED {
        socket.send(command).await.unwrap();
    }
    let mut left = all();
    while !is_answered(&socket.object().await.unwrap(), &mut left) {}
    let mut poll = Poll::open(&address, "/count").await;
    assert_eq!(poll.say_text(&array).await, 202);
    let mut left = all();
    while !left.is_empty() {
        for object in poll.next().await.unwrap() {
            is_answered(&object, &mut left);
        }
    }
    // Not as one of several.
    assert_eq!(poll.say_text(r#"{"id":9,"send":undefined}"#).await, 202);
    let mut left = vec![9];
    while !left.is_empty() {
        for object in poll.next().await.unwrap() {
            is_answered(&object, &mut left);
        }
    }
    let mut events = Events::open(&address, "/count", "").await;
    let (_, welcome) = events.next().await;
    let session = welcome["welcome"]["session"].as_str().unwrap();
    let named = [("protoplex-session", session)];
    let mut connection = Connection::open(&address).await.unwrap();
    let said = connection.request("POST", "/count", &named, array.as_bytes());
    assert_eq!(said.await.unwrap().status, 202);
    let mut left = all();
    while !is_answered(&events.next().await.1, &mut left) {}
    // What the handler is sent may be nothing.
    let mut seen = Vec::new();
    let null = json!({"id": 27, "send": null});
    let answer = socket.command(null, &mut seen).await.unwrap();
    assert!(answer["ok"].is_object(), "{answer}");
    assert_eq!(seen, [json!({"message": null})]);
}
