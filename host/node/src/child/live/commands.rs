//! What clients of the channel protocol say.

use super::{Out, client::Speaker, encode, hub::Ticket};
use bytes::Bytes;
use protoplex_handler::{LiveMessage, NAME_BYTES_MAX};
use protoplex_live::Position;
use protoplex_wire::manifest::{Namespace, Publish, Subscribe};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// One command; exactly one of its verbs is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Command<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    subscribe: Option<ToSubscribe<'a>>,
    #[serde(borrow)]
    unsubscribe: Option<OfChannel<'a>>,
    #[serde(borrow)]
    publish: Option<ToPublish<'a>>,
    #[serde(borrow)]
    presence: Option<OfChannel<'a>>,
    #[serde(borrow)]
    refresh: Option<ToRefresh<'a>>,
    #[serde(borrow)]
    send: Option<&'a RawValue>,
    ping: Option<Empty>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfChannel<'a> {
    #[serde(borrow)]
    channel: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToSubscribe<'a> {
    #[serde(borrow)]
    channel: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    from: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    token: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToPublish<'a> {
    #[serde(borrow)]
    channel: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    key: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToRefresh<'a> {
    #[serde(borrow)]
    channel: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    token: std::borrow::Cow<'a, str>,
}

/// Why a command was not done: a word for programs, and one for people.
struct Fault(&'static str, String);

impl Fault {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self(code, message.into())
    }
}

/// The id of a command of which only the beginning is there, where it stands first, as the client for pages writes it.
fn leading_id(beginning: &[u8]) -> Option<u64> {
    let mut rest = beginning;
    for token in [&b"{"[..], b"\"id\"", b":"] {
        rest = rest.trim_ascii_start().strip_prefix(token)?;
    }
    let rest = rest.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    // One that is cut off could be any longer number.
    (digits < rest.len()).then_some(())?;
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

impl Speaker<'_> {
    /// Does what a client says; the answer waits for it with everything else. Nothing of a handler that failed is said:
    /// the connection ends.
    pub(super) fn command(&self, text: &str) {
        let command = match serde_json::from_str::<Command<'_>>(text) {
            Ok(command) => command,
            Err(error) => {
                let message = format!("this is no command: {error}");
                return self.answer(encode::error(None, "bad-request", &message));
            }
        };
        let id = command.id;
        match self.obey(command) {
            Ok(answer) => answer.into_iter().for_each(|answer| self.answer(answer)),
            Err(Fault(code, message)) => self.answer(encode::error(id, code, &message)),
        }
    }

    /// A command that was too large to be kept is answered by the id that it begins with.
    pub(super) fn too_large(&self, beginning: &[u8], bytes: u64) {
        let max = self.live().rules().limits.received_bytes_max;
        let message =
            format!("the command has {bytes} bytes as it was sent; {max} is the most, inflated");
        self.answer(encode::error(leading_id(beginning), "too-large", &message));
    }

    fn answer(&self, object: Bytes) {
        self.live().say(self.client, Out::Object(object));
    }

    fn obey(&self, command: Command<'_>) -> Result<Option<Bytes>, Fault> {
        let id = command.id;
        let needed = || id.ok_or_else(|| Fault::new("bad-request", "a command has an id"));
        match command {
            Command {
                subscribe: Some(asked),
                ..
            } => self.subscribe(needed()?, &asked).map(|()| None),
            Command {
                unsubscribe: Some(of),
                ..
            } => {
                let id = needed()?;
                let channel = of.channel.as_ref().into();
                let mut state = self.client.state.lock();
                self.live().leave(self.client, &mut state, &channel);
                Ok(Some(encode::ok(id)))
            }
            Command {
                publish: Some(asked),
                ..
            } => self.publish(needed()?, &asked).map(|()| None),
            Command {
                presence: Some(of), ..
            } => {
                let id = needed()?;
                let channel = self.channel(&of.channel)?;
                let ticket = Ticket::Client(self.client.id, Some(id));
                let live = self.live();
                live.tell(|hub, now_ms| hub.members(now_ms, ticket, &channel));
                Ok(None)
            }
            Command {
                refresh: Some(asked),
                ..
            } => {
                let id = needed()?;
                let channel = self.channel(&asked.channel)?;
                let exp = self.with_token(&channel, Some(&asked.token))?;
                self.live().expire_at(self.client, &channel, exp);
                Ok(Some(encode::ok(id)))
            }
            Command {
                send: Some(value), ..
            } => {
                let heard = self.received(LiveMessage::Text(value.get()));
                Ok(id.filter(|_| heard).map(encode::ok))
            }
            Command { ping: Some(_), .. } => Ok(Some(encode::ok(needed()?))),
            _ => Err(Fault::new(
                "bad-request",
                "a command says what to do: subscribe, unsubscribe, publish, presence, refresh, send or ping",
            )),
        }
    }

    fn subscribe(&self, id: u64, asked: &ToSubscribe<'_>) -> Result<(), Fault> {
        let channel: Arc<str> = asked.channel.as_ref().into();
        let namespace = self.namespace(&channel)?;
        let mut exp = None;
        match namespace.subscribe {
            Subscribe::Anyone => {}
            Subscribe::Token => exp = Some(self.with_token(&channel, asked.token.as_deref())?),
            Subscribe::Handlers => {
                return Err(Fault::new(
                    "forbidden",
                    "its handler subscribes to this channel",
                ));
            }
        }
        let from = asked
            .from
            .as_deref()
            .map(str::parse::<Position>)
            .transpose();
        let from = from.map_err(|_| Fault::new("bad-request", "`from` is EPOCH-OFFSET"))?;
        let user = self.client.state.lock().user.clone();
        let live = self.live();
        live.subscribe(self.client, &channel, from, user, Some(id));
        if let Some(exp) = exp {
            live.expire_at(self.client, &channel, exp);
        }
        Ok(())
    }

    fn publish(&self, id: u64, asked: &ToPublish<'_>) -> Result<(), Fault> {
        let channel: Arc<str> = asked.channel.as_ref().into();
        let namespace = self.namespace(&channel)?;
        if namespace.publish == Publish::Handlers {
            return Err(Fault::new(
                "forbidden",
                "clients do not publish to this channel",
            ));
        }
        self.channel(&channel)?;
        let key = asked.key.as_deref();
        if key.is_some_and(|key| key.len() > NAME_BYTES_MAX) {
            return Err(Fault::new(
                "bad-request",
                format!("a key has at most {NAME_BYTES_MAX} bytes"),
            ));
        }
        let data = Bytes::copy_from_slice(asked.data.get().as_bytes());
        let ticket = Ticket::Client(self.client.id, Some(id));
        self.live().publish(ticket, &channel, data, key);
        Ok(())
    }

    fn namespace(&self, channel: &str) -> Result<Namespace, Fault> {
        let (name, key) = channel.split_once(':').unwrap_or((channel, ""));
        let rules = self.live().rules();
        match rules.namespaces.get(name) {
            Some(namespace) if !key.is_empty() && channel.len() <= NAME_BYTES_MAX => Ok(*namespace),
            Some(_) => Err(Fault::new(
                "bad-request",
                format!("a channel is NAMESPACE:KEY, of at most {NAME_BYTES_MAX} bytes"),
            )),
            None => Err(Fault::new(
                "unknown",
                format!("there is no namespace `{name}`"),
            )),
        }
    }

    /// A channel that the client is subscribed to.
    fn channel(&self, channel: &str) -> Result<Arc<str>, Fault> {
        match self.live().hub().is_subscribed(self.client.id, channel) {
            true => Ok(channel.into()),
            false => Err(Fault::new("forbidden", "subscribe to the channel first")),
        }
    }

    /// The second of 1970 in which a token's right to a channel ends.
    fn with_token(&self, channel: &str, token: Option<&str>) -> Result<u64, Fault> {
        let token =
            token.ok_or_else(|| Fault::new("forbidden", "the channel needs a signed token"))?;
        let user = self.client.state.lock().user.clone();
        let secrets = &self.live().secrets;
        let end = secrets.right_until(token, channel, user.as_deref());
        end.map_err(|why| Fault::new(why.code(), why.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_known_by_its_beginning_where_that_is_its_id() {
        for (beginning, id) in [
            (r#"{"id":17,"publish":{"channel":"a"#, Some(17)),
            (" { \"id\" : 0 , \"send\"", Some(0)),
            (r#"{"id":17"#, None),
            (r#"{"id":"17","send":"#, None),
            (r#"{"id":-1,"send":"#, None),
            (r#"{"send":"xxxxxxxxxxxx"#, None),
            ("", None),
        ] {
            assert_eq!(leading_id(beginning.as_bytes()), id, "{beginning}");
        }
    }
}
