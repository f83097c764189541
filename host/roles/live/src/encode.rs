//! Encoding of what goes out: objects of the channel protocol, and the forms of messages, each made once for all who
//! receive it.

use super::{Out, error_code::ErrorCode, hub::LiveItem};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use protoplex_channels::{
    Change, Form, Item, Message, Notice, Position, QueueItem, Refusal, Subscribed,
};
use protoplex_websocket::{Opcode, deflate, frame};
use protoplex_wire::manifest::LiveLimits;
use serde::Serialize;
use serde_json::{json, value::RawValue};
use std::sync::Arc;

fn object(value: serde_json::Value) -> Bytes {
    value.to_string().into()
}

/// The first object of every connection.
pub(super) fn welcome(session: Option<&str>, user: Option<&str>, limits: &LiveLimits) -> Bytes {
    object(json!({"welcome": {
        "session": session,
        "user": user,
        "ping_ms": limits.ping_ms,
        // Of one command: who knows it need not send what is refused.
        "bytes_max": limits.received_bytes_max,
    }}))
}

/// Answers command `id`: done.
pub(super) fn ok(id: u64) -> Bytes {
    object(json!({"id": id, "ok": {}}))
}

/// Answers command `id` with the members of a channel.
pub(super) fn members(id: u64, members: &[Arc<str>]) -> Bytes {
    let members: Vec<&str> = members.iter().map(|member| &**member).collect();
    object(json!({"id": id, "ok": {"members": members}}))
}

/// Answers command `id` with the position of its message.
pub(super) fn published(id: u64, position: Position) -> Bytes {
    object(json!({"id": id, "ok": {"position": position.to_string()}}))
}

/// Answers command `id` with the reason why it was not done.
pub(super) fn error(id: Option<u64>, code: ErrorCode, message: &str) -> Bytes {
    object(json!({"id": id, "error": {"code": code, "message": message}}))
}

/// A word for programs, and one for people.
pub(super) fn refusal(refusal: &Refusal) -> (ErrorCode, String) {
    match refusal {
        Refusal::NoConnection => (ErrorCode::Unavailable, "the connection is gone".into()),
        Refusal::NoNamespace => (ErrorCode::Unknown, "there is no such namespace".into()),
        Refusal::Subscribed => (ErrorCode::BadRequest, "it is subscribed already".into()),
        Refusal::Unsubscribed => (
            ErrorCode::BadRequest,
            "it was unsubscribed meanwhile".into(),
        ),
        Refusal::Unavailable => (
            ErrorCode::Unavailable,
            "the channel is out of reach; try again, with the same key".into(),
        ),
        Refusal::TooManySubscriptions(max) => (
            ErrorCode::TooMany,
            format!("a connection may be subscribed to {max} channels"),
        ),
        Refusal::TooManySubscribers(max) => (
            ErrorCode::TooMany,
            format!("the channel has {max} subscribers"),
        ),
        Refusal::TooLarge { bytes, max } => (
            ErrorCode::TooLarge,
            format!("the message has {bytes} bytes; {max} is the most"),
        ),
    }
}

/// That a client is subscribed: to `id`, where it asked for it itself. The position is the one before what it missed.
pub(super) fn subscribed(id: Option<u64>, channel: &str, subscribed: &Subscribed) -> Bytes {
    let mut position = subscribed.position;
    position.offset -= subscribed.missed.len() as u64;
    let members: Vec<&str> = subscribed.members.iter().map(|member| &**member).collect();
    let (position, recovered) = (position.to_string(), subscribed.recovered);
    object(match id {
        Some(id) => {
            json!({"id": id, "ok": {"position": position, "recovered": recovered, "members": members}})
        }
        None => json!({"subscribed": {
            "channel": channel, "position": position, "recovered": recovered, "members": members
        }}),
    })
}

/// That the server ended a subscription.
pub(super) fn ended(channel: &str, code: ErrorCode, message: &str) -> Bytes {
    object(json!({"channel": channel, "ended": {"code": code, "message": message}}))
}

/// That the server goes away.
fn retry(after_ms: u64) -> Bytes {
    object(json!({"retry": {"after_ms": after_ms}}))
}

/// Object by which the server ends the connection: transports of text have no frame of their own for it.
pub(super) fn closed(code: u16, reason: &str) -> Bytes {
    object(json!({"closed": {"code": code, "reason": reason}}))
}

fn notice(channel: &str, notice: &Notice) -> Bytes {
    object(match notice {
        Notice::Presence(_, Change::Joined(member)) => {
            json!({"channel": channel, "joined": &**member})
        }
        Notice::Presence(_, Change::Left(member)) => json!({"channel": channel, "left": &**member}),
        Notice::Reset(_, position) => {
            json!({"channel": channel, "reset": {"position": position.to_string()}})
        }
    })
}

/// Object for data that a handler sends to one connection.
pub(super) fn of_handler(data: &[u8]) -> Bytes {
    #[derive(Serialize)]
    struct Sent {
        message: Box<RawValue>,
    }
    let sent = Sent {
        message: value(data),
    };
    serde_json::to_vec(&sent).unwrap_or_default().into()
}

/// Content as a JSON value: itself where it is one, else a string, and bytes that are no text in base64.
fn value(data: &[u8]) -> Box<RawValue> {
    let text = std::str::from_utf8(data);
    let own = text
        .ok()
        .and_then(|text| RawValue::from_string(text.to_owned()).ok());
    let other = || {
        let value = match text {
            Ok(text) => json!(text),
            Err(_) => json!({"base64": STANDARD.encode(data)}),
        };
        serde_json::value::to_raw_value(&value)
    };
    own.or_else(|| other().ok()).unwrap_or_default()
}

/// A message of a channel, as an object.
fn message_object(channel: &str, message: &Message) -> Vec<u8> {
    #[derive(Serialize)]
    struct Published<'a> {
        channel: &'a str,
        position: String,
        data: Box<RawValue>,
    }
    let published = Published {
        channel,
        position: message.position.to_string(),
        data: value(&message.data),
    };
    serde_json::to_vec(&published).unwrap_or_default()
}

/// Forms that a WebSocket is sent.
#[derive(Clone, Copy)]
pub(super) struct Spoken {
    pub(super) is_raw: bool,
    pub(super) may_deflate: bool,
}

impl Spoken {
    fn frame(self, opcode: Opcode, content: &[u8]) -> Bytes {
        match self.may_deflate.then(|| deflate(content)).flatten() {
            Some(small) => frame(opcode, true, &small),
            None => frame(opcode, false, content),
        }
    }

    /// Encodes an item as frames; the error is the code and reason of the connection's end.
    pub(super) fn frames(self, item: LiveItem, of: Channel<'_>) -> Result<Bytes, (u16, String)> {
        match item {
            Item::Message(number, message)
            | Item::Reply(QueueItem::Reply(Out::Missed(number, message)), _) => {
                Ok(self.message(&message, || of(number)))
            }
            Item::Reply(QueueItem::Notice(_), _) if self.is_raw => Ok(Bytes::new()),
            Item::Reply(QueueItem::Notice(said), _) => Ok(match of(number_of(&said)) {
                Some(channel) => self.frame(Opcode::Text, &notice(&channel, &said)),
                None => Bytes::new(),
            }),
            Item::Reply(QueueItem::Reply(out), _) => match out {
                Out::Object(bytes) | Out::Text(bytes) => Ok(self.frame(Opcode::Text, &bytes)),
                Out::Binary(bytes) => Ok(self.frame(Opcode::Binary, &bytes)),
                Out::Retry(_) if self.is_raw => Ok(Bytes::new()),
                Out::Retry(after_ms) => Ok(self.frame(Opcode::Text, &retry(after_ms))),
                Out::Close(code, reason) => Err((code, reason)),
                Out::Missed(..) => Ok(Bytes::new()),
            },
        }
    }

    /// Made once for all who are spoken to alike; nothing where the subscription has ended.
    fn message(self, message: &Message, channel: impl Fn() -> Option<Arc<str>>) -> Bytes {
        let form = match (self.is_raw, self.may_deflate) {
            (true, _) => Form::Bare,
            (false, false) => Form::Frame,
            (false, true) => Form::Deflated,
        };
        if let Some(made) = message.made(form) {
            return made;
        }
        let Some(channel) = channel() else {
            return Bytes::new();
        };
        message.form(form, |message| match form {
            Form::Bare => {
                let opcode = match std::str::from_utf8(&message.data) {
                    Ok(_) => Opcode::Text,
                    Err(_) => Opcode::Binary,
                };
                frame(opcode, false, &message.data)
            }
            _ => self.frame(Opcode::Text, &message_object(&channel, message)),
        })
    }
}

/// The channel of a subscription, by its number.
pub(super) type Channel<'a> = &'a dyn Fn(u32) -> Option<Arc<str>>;

fn number_of(notice: &Notice) -> u32 {
    let (Notice::Presence(number, _) | Notice::Reset(number, _)) = notice;
    *number
}

/// Form of an item for transports of text.
pub(super) enum Text {
    Object(Bytes),
    /// A message, with its id.
    Message(Bytes, String),
    /// An item of a subscription that has ended.
    Nothing,
    /// The end of the connection, with code and reason.
    End(u16, String),
}

/// Encodes an item as an object of the channel protocol.
pub(super) fn text(item: LiveItem, of: Channel<'_>) -> Text {
    match item {
        Item::Message(number, message)
        | Item::Reply(QueueItem::Reply(Out::Missed(number, message)), _) => match of(number) {
            Some(channel) => {
                let id = format!("{channel}@{}", message.position);
                Text::Message(message_object(&channel, &message).into(), id)
            }
            None => Text::Nothing,
        },
        Item::Reply(QueueItem::Notice(said), _) => match of(number_of(&said)) {
            Some(channel) => Text::Object(notice(&channel, &said)),
            None => Text::Nothing,
        },
        Item::Reply(QueueItem::Reply(out), _) => match out {
            Out::Object(bytes) | Out::Text(bytes) | Out::Binary(bytes) => Text::Object(bytes),
            Out::Retry(after_ms) => Text::Object(retry(after_ms)),
            Out::Close(code, reason) => Text::End(code, reason),
            Out::Missed(..) => Text::Nothing,
        },
    }
}

/// Encodes an item as an event of `text/event-stream`, by whose id a client can go on; the error is the code and reason of
/// the connection's end.
pub(super) fn event(item: LiveItem, of: Channel<'_>) -> Result<Bytes, (u16, String)> {
    if let Item::Message(_, message) = &item
        && let Some(made) = message.made(Form::Event)
    {
        return Ok(made);
    }
    let message = match &item {
        Item::Message(_, message) => Some(Arc::clone(message)),
        _ => None,
    };
    let mut event = Vec::new();
    if let Item::Reply(QueueItem::Reply(Out::Retry(after_ms)), _) = &item {
        // For clients that come back by themselves.
        event = format!("retry: {after_ms}\n").into_bytes();
    }
    match text(item, of) {
        Text::Object(object) => append_data(&mut event, &object),
        Text::Message(object, id) => {
            event = format!("id: {id}\n").into_bytes();
            append_data(&mut event, &object);
        }
        Text::Nothing => return Ok(Bytes::new()),
        Text::End(code, reason) => return Err((code, reason)),
    }
    let event = Bytes::from(event);
    if let Some(message) = message {
        message.form(Form::Event, |_| event.clone());
    }
    Ok(event)
}

/// An end, as the last event.
pub(super) fn last_event(code: u16, reason: &str) -> Vec<u8> {
    let mut event = Vec::new();
    append_data(&mut event, &closed(code, reason));
    event
}

/// JSON has its line ends escaped in strings; where it stands between values, a line is a line of the event.
fn append_data(event: &mut Vec<u8>, data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        event.extend_from_slice(b"data: ");
        event.extend(line.iter().filter(|byte| **byte != b'\r'));
        event.push(b'\n');
    }
    event.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_becomes_a_value_of_json_whatever_it_is() {
        for (data, expected) in [
            (&br#"{"a": [1, "b"]}"#[..], r#"{"a": [1, "b"]}"#),
            (b"1.50", "1.50"),
            (b"plain \"text\"\n", r#""plain \"text\"\n""#),
            (b"", r#""""#),
            (b"{", r#""{""#),
            (b"\xff\xfe", r#"{"base64":"//4="}"#),
        ] {
            assert_eq!(value(data).get(), expected);
        }
    }

    #[test]
    fn an_event_has_no_line_that_its_content_made() {
        let position = Position {
            epoch: 10,
            offset: 3,
        };
        let data = b"{\"a\":\n\r1,\"b\":\"\\nid: x\"}";
        let message = Arc::new(Message::new(position, data[..].into()));
        let of = |_| Some("chat:a".into());
        let event = event(Item::Message(0, message), &of).unwrap_or_default();
        let text = std::str::from_utf8(&event).unwrap_or_default();
        assert_eq!(
            text,
            "id: chat:a@a-3\ndata: {\"channel\":\"chat:a\",\"position\":\"a-3\",\"data\":{\"a\":\n\
             data: 1,\"b\":\"\\nid: x\"}}\n\n"
        );
    }
}
