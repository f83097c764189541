//! Commands of clients of the channel protocol.

use super::{
    Live, Out,
    arguments::{ChannelArguments, PublishArguments},
    client::{Client, Handle},
    encode,
    error_code::ErrorCode,
    hub::Ticket,
};
use bytes::Bytes;
use protoplex_channels::Position;
use protoplex_handler::{LiveMessage, NAME_BYTES_MAX};
use protoplex_net::Rate;
use protoplex_wire::manifest::{Namespace, Publish, Subscribe};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

/// A command as the client sent it. A verb whose value is `null` counts as there; the verb judges the value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    id: Option<u64>,
    #[serde(borrow, default, deserialize_with = "present")]
    subscribe: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    unsubscribe: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    publish: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    presence: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    refresh: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    send: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    ping: Option<&'a RawValue>,
}

/// A value that is there, `null` too.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

/// The one verb of a command.
enum Verb<'a> {
    Subscribe(SubscribeArguments<'a>),
    Unsubscribe(ChannelArguments<'a>),
    Publish(PublishArguments<'a>),
    Presence(ChannelArguments<'a>),
    Refresh(RefreshArguments<'a>),
    Send(&'a RawValue),
    Ping,
}

/// Reads what a verb says.
type ReadVerb<'a> = fn(&'a RawValue) -> Result<Verb<'a>, serde_json::Error>;

impl<'a> Envelope<'a> {
    fn verb(&self) -> Result<Verb<'a>, Fault> {
        let all: [(Option<&'a RawValue>, ReadVerb<'a>); 7] = [
            (self.subscribe, |value| {
                serde_json::from_str(value.get()).map(Verb::Subscribe)
            }),
            (self.unsubscribe, |value| {
                serde_json::from_str(value.get()).map(Verb::Unsubscribe)
            }),
            (self.publish, |value| {
                serde_json::from_str(value.get()).map(Verb::Publish)
            }),
            (self.presence, |value| {
                serde_json::from_str(value.get()).map(Verb::Presence)
            }),
            (self.refresh, |value| {
                serde_json::from_str(value.get()).map(Verb::Refresh)
            }),
            (self.send, |value| Ok(Verb::Send(value))),
            (self.ping, |value| {
                serde_json::from_str(value.get()).map(|Empty {}| Verb::Ping)
            }),
        ];
        let mut there = all
            .into_iter()
            .filter_map(|(value, read)| Some((value?, read)));
        match (there.next(), there.next()) {
            (Some((value, read)), None) => read(value).map_err(|error| no_command(&error)),
            _ => Err(Fault::new(
                ErrorCode::BadRequest,
                "a command says one thing to do: subscribe, unsubscribe, publish, presence, refresh, send or ping",
            )),
        }
    }
}

fn no_command(error: &serde_json::Error) -> Fault {
    Fault::new(
        ErrorCode::BadRequest,
        format!("this is no command: {error}"),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscribeArguments<'a> {
    #[serde(borrow)]
    channel: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    from: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    token: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefreshArguments<'a> {
    #[serde(borrow)]
    channel: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    token: std::borrow::Cow<'a, str>,
}

/// Tells what the name of a channel has to be.
pub(super) fn no_channel() -> String {
    format!("a channel is NAMESPACE:KEY, of at most {NAME_BYTES_MAX} bytes")
}

/// Whether a text is the name of a channel, of whatever namespace.
pub(super) fn is_channel(name: &str) -> bool {
    let parts = name.split_once(':');
    parts.is_some_and(|(namespace, key)| !namespace.is_empty() && !key.is_empty())
        && name.len() <= NAME_BYTES_MAX
}

/// Why a command was not done: a word for programs, and one for people.
struct Fault {
    code: ErrorCode,
    message: String,
}

impl Fault {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }
}

/// The id of a text that is no command, where it has one: who sent it waits for the answer.
fn id_of(text: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Any {
        id: Option<u64>,
    }
    match serde_json::from_str::<Any>(text) {
        Ok(any) => any.id,
        Err(_) => leading_id(text.as_bytes()),
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

impl Handle {
    /// The way in for what the client sends.
    pub(super) fn input(&self) -> ClientInput<'_> {
        ClientInput {
            live: &self.live,
            client: &self.client,
        }
    }
}

/// Takes what a client sends.
#[derive(Clone, Copy)]
pub(super) struct ClientInput<'a> {
    pub(super) live: &'a Live,
    pub(super) client: &'a Client,
}

impl ClientInput<'_> {
    pub(super) fn live(&self) -> &Live {
        self.live
    }

    /// Takes messages of the client, as a rate counts them, and says how long it has to wait before more is taken.
    ///
    /// # Errors
    /// That would be longer than the longest wait: they are refused, and this is how long to stay away.
    pub(super) fn charge(
        &self,
        rate: &Rate,
        cost: u32,
        wait_max: Duration,
    ) -> Result<Duration, Duration> {
        let own = (rate, &self.client.messages_full_at_ns);
        let shares = &self.live().admission.shares;
        let wait = shares.charge(&self.client.share, own, cost, wait_max);
        if wait != Ok(Duration::ZERO) {
            self.live().counters.held_back.fetch_add(1, Relaxed);
        }
        wait
    }

    /// Gives a message of the client to its handler. Returns whether the handler took it.
    pub(super) fn received(&self, message: LiveMessage<'_>) -> bool {
        self.live().counters.received.fetch_add(1, Relaxed);
        self.live.received(self.client, message)
    }
}

impl ClientInput<'_> {
    /// Runs a command, and queues its answer behind everything else. A failure of the handler has no answer: the
    /// connection ends.
    pub(super) fn command(&self, text: &str) {
        let read = serde_json::from_str::<Envelope<'_>>(text);
        let id = read.as_ref().map_or_else(|_| id_of(text), |known| known.id);
        let done = read.map_err(|error| no_command(&error));
        let done = done.and_then(|known| self.run(id, known.verb()?));
        match done {
            Ok(answer) => answer.into_iter().for_each(|answer| self.answer(answer)),
            Err(Fault { code, message }) => self.answer(encode::error(id, code, &message)),
        }
    }

    /// A command that was too large to be kept is answered by the id that it begins with.
    pub(super) fn too_large(&self, beginning: &[u8], bytes: u64) {
        let max = self.live().rules().limits.received_bytes_max;
        let message =
            format!("the command has {bytes} bytes as it was sent; {max} is the most, inflated");
        self.answer(encode::error(
            leading_id(beginning),
            ErrorCode::TooLarge,
            &message,
        ));
    }

    fn answer(&self, object: Bytes) {
        self.live().queue(self.client, Out::Object(object));
    }

    fn run(&self, id: Option<u64>, verb: Verb<'_>) -> Result<Option<Bytes>, Fault> {
        let needed = || id.ok_or_else(|| Fault::new(ErrorCode::BadRequest, "a command has an id"));
        match verb {
            Verb::Subscribe(asked) => self.subscribe(needed()?, &asked).map(|()| None),
            Verb::Unsubscribe(of) => {
                let id = needed()?;
                let channel = of.channel.as_ref().into();
                let mut state = self.client.state.lock();
                self.live().leave(self.client, &mut state, &channel);
                Ok(Some(encode::ok(id)))
            }
            Verb::Publish(asked) => self.publish(needed()?, &asked).map(|()| None),
            Verb::Presence(of) => {
                let id = needed()?;
                let channel = self.channel(&of.channel)?;
                let ticket = Ticket::Client(self.client.id, Some(id));
                let live = self.live();
                live.apply(|hub, now_ms| hub.members(now_ms, ticket, &channel));
                Ok(None)
            }
            Verb::Refresh(asked) => {
                let id = needed()?;
                let channel = self.channel(&asked.channel)?;
                let exp = self.with_token(&channel, Some(&asked.token))?;
                self.live().expire_at(self.client, &channel, exp);
                Ok(Some(encode::ok(id)))
            }
            Verb::Send(value) => {
                let is_taken = self.received(LiveMessage::Text(value.get()));
                Ok(id.filter(|_| is_taken).map(encode::ok))
            }
            Verb::Ping => Ok(Some(encode::ok(needed()?))),
        }
    }

    fn subscribe(&self, id: u64, asked: &SubscribeArguments<'_>) -> Result<(), Fault> {
        let channel: Arc<str> = asked.channel.as_ref().into();
        let namespace = self.namespace(&channel)?;
        let mut exp = None;
        match namespace.subscribe {
            Subscribe::Anyone => {}
            Subscribe::Token => exp = Some(self.with_token(&channel, asked.token.as_deref())?),
            Subscribe::Handlers => {
                return Err(Fault::new(
                    ErrorCode::Forbidden,
                    "its handler subscribes to this channel",
                ));
            }
        }
        let from = asked
            .from
            .as_deref()
            .map(str::parse::<Position>)
            .transpose();
        let from = from.map_err(|_| Fault::new(ErrorCode::BadRequest, "`from` is EPOCH-OFFSET"))?;
        let user = self.client.state.lock().user.clone();
        let live = self.live();
        live.subscribe(self.client, &channel, from, user, Some(id));
        if let Some(exp) = exp {
            live.expire_at(self.client, &channel, exp);
        }
        Ok(())
    }

    fn publish(&self, id: u64, asked: &PublishArguments<'_>) -> Result<(), Fault> {
        let channel: Arc<str> = asked.channel.as_ref().into();
        let namespace = self.namespace(&channel)?;
        if namespace.publish == Publish::Handlers {
            return Err(Fault::new(
                ErrorCode::Forbidden,
                "clients do not publish to this channel",
            ));
        }
        self.channel(&channel)?;
        let key = asked.key.as_deref();
        if key.is_some_and(|key| key.len() > NAME_BYTES_MAX) {
            return Err(Fault::new(
                ErrorCode::BadRequest,
                format!("a key has at most {NAME_BYTES_MAX} bytes"),
            ));
        }
        let data = Bytes::copy_from_slice(asked.data.get().as_bytes());
        let ticket = Ticket::Client(self.client.id, Some(id));
        self.live().publish(ticket, &channel, data, key);
        Ok(())
    }

    fn namespace(&self, channel: &str) -> Result<Namespace, Fault> {
        let (name, _) = channel.split_once(':').unwrap_or((channel, ""));
        let rules = self.live().rules();
        match rules.namespaces.get(name) {
            Some(_) if !is_channel(channel) => Err(Fault::new(ErrorCode::BadRequest, no_channel())),
            Some(namespace) => Ok(*namespace),
            None => Err(Fault::new(
                ErrorCode::Unknown,
                format!("there is no namespace `{name}`"),
            )),
        }
    }

    /// A channel that the client is subscribed to.
    fn channel(&self, channel: &str) -> Result<Arc<str>, Fault> {
        match self.live().hub().is_subscribed(self.client.id, channel) {
            true => Ok(channel.into()),
            false => Err(Fault::new(
                ErrorCode::Forbidden,
                "subscribe to the channel first",
            )),
        }
    }

    /// The second of 1970 in which a token's right to a channel ends.
    fn with_token(&self, channel: &str, token: Option<&str>) -> Result<u64, Fault> {
        let token = token
            .ok_or_else(|| Fault::new(ErrorCode::Forbidden, "the channel needs a signed token"))?;
        let user = self.client.state.lock().user.clone();
        let secrets = self.live().secrets.load();
        let end = secrets.right_until(token, channel, user.as_deref());
        end.map_err(|why| Fault::new(why.code(), why.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_command_is_known_by_its_id() {
        for (text, id) in [
            (r#"{"id":17,"publish":{"channel":"a:b","key":5}}"#, Some(17)),
            (r#"{"publish":{},"id":17,"more":1}"#, Some(17)),
            (r#"{"id":17,"send":1,"send":2}"#, Some(17)),
            (r#"{"id":17,"send":undefined}"#, Some(17)),
            (r#"{"id":"17","other":1}"#, None),
            (r#"{"other":1}"#, None),
            (r#"[{"id":17}]"#, None),
            ("", None),
        ] {
            assert_eq!(id_of(text), id, "{text}");
        }
    }

    #[test]
    fn a_command_has_exactly_one_verb_and_null_is_a_value() {
        for (text, is_one) in [
            (r#"{"id":1,"send":null}"#, true),
            (r#"{"id":1,"send":{"a":1}}"#, true),
            (r#"{"send":"a"}"#, true),
            (r#"{"id":1,"ping":{}}"#, true),
            (r#"{"id":1,"publish":{"channel":"a:b","data":null}}"#, true),
            (
                r#"{"id":1,"subscribe":{"channel":"a:b","from":null}}"#,
                true,
            ),
            (r#"{"id":1,"ping":{},"send":1}"#, false),
            (r#"{"id":1,"send":null,"subscribe":null}"#, false),
            (r#"{"id":1,"ping":null}"#, false),
            (r#"{"id":1,"publish":{"channel":"a:b"}}"#, false),
            (
                r#"{"id":1,"publish":{"channel":"a:b","data":1,"key":5}}"#,
                false,
            ),
            (r#"{"id":1,"presence":{}}"#, false),
            (r#"{"id":1,"presence":{"channel":"\ud800"}}"#, false),
            (r#"{"id":1}"#, false),
        ] {
            let known: Envelope<'_> = serde_json::from_str(text).expect("it has a form");
            assert_eq!(known.verb().is_ok(), is_one, "{text}");
            assert!(known.id.is_none_or(|id| id == 1), "{text}");
        }
    }

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
