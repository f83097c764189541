//! One connection, whatever its transport: its handler's side, and the way to wake its transport.

use super::{
    Live, Out, close, encode,
    hub::{self, Ticket},
};
use bytes::Bytes;
use parking_lot::Mutex;
use protoplex_channels::{ConnectionId, Position};
use protoplex_child::{
    build::{Code, LoadedBuild, Slot},
    metrics::DecisionKind,
};
use protoplex_handler::{
    Again, Effect, HandlerError, LiveError, LiveHandler, LiveMessage, Outcome, Session, Transport,
};
use protoplex_net::{Rate, Share};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Waker,
    time::Duration,
};

/// Clients that are sent away come back at a moment of their own within so many milliseconds.
const COME_BACK_MS: u64 = 2_000;

/// Milliseconds that a client which is sent away should wait.
pub(super) fn come_back_ms() -> u64 {
    rand::random_range(0..COME_BACK_MS)
}

/// See the module.
pub(super) struct Client {
    pub(super) id: ConnectionId,
    pub(super) transport: Transport,
    /// Without the channel protocol: what comes goes to the handler as it is, and back.
    pub(super) is_raw: bool,
    pub(super) address: IpAddr,
    /// By which requests with commands find it; unguessable. A WebSocket needs none.
    pub(super) session_id: Option<Box<str>>,
    pub(super) share: Share,
    /// When it may be as far ahead of its rate of messages as ever, on the clock of all shares.
    messages_full_at_ns: AtomicU64,
    pub(super) state: Mutex<State>,
    waker: Mutex<Option<Waker>>,
    /// To be ended at once, whatever waits.
    killed: Mutex<Option<(u16, &'static str)>>,
}

/// State of a client that its handler needs.
pub(super) struct State {
    pub(super) build: Arc<LoadedBuild>,
    pub(super) slot: usize,
    pub(super) session: Session,
    /// The value of [`Live::generation`] when it was last looked at.
    pub(super) generation: u64,
    /// The client has just come, and may have said where it was.
    pub(super) is_new: bool,
    pub(super) user: Option<Arc<str>>,
    /// The second of 1970 in which its right to a channel ends.
    pub(super) tokens: HashMap<Arc<str>, u64>,
    /// Channels that its handler subscribed it to: these need no other right.
    pub(super) by_handler: HashSet<Arc<str>>,
    /// Code and reason of the connection's end, once it has ended.
    ending: Option<(u16, String)>,
}

impl State {
    pub(super) fn slot(&self) -> &Slot {
        &self.build.handlers[self.slot]
    }

    pub(super) fn handler(&self) -> Arc<LiveHandler> {
        match &self.slot().code {
            Code::Live(handler) => Arc::clone(handler),
            _ => unreachable!("a connection is opened, and moved, by a live handler"),
        }
    }
}

impl Client {
    pub(super) fn new(
        id: ConnectionId,
        transport: Transport,
        is_raw: bool,
        (address, share): (IpAddr, Share),
        (build, slot): (Arc<LoadedBuild>, usize),
        (session, generation): (Session, u64),
    ) -> Self {
        let session_id = match transport {
            Transport::WebSocket => None,
            Transport::EventStream | Transport::LongPoll => {
                Some(format!("{:032x}", rand::random::<u128>()).into())
            }
        };
        Self {
            id,
            transport,
            is_raw,
            address,
            session_id,
            share,
            messages_full_at_ns: AtomicU64::new(0),
            state: Mutex::new(State {
                build,
                slot,
                session,
                generation,
                is_new: true,
                user: None,
                tokens: HashMap::new(),
                by_handler: HashSet::new(),
                ending: None,
            }),
            waker: Mutex::default(),
            killed: Mutex::default(),
        }
    }

    /// Whether its connection is told of drains, and will say so.
    pub(super) fn hears_of_drains(&self) -> bool {
        self.transport == Transport::WebSocket
    }

    /// Sets the task to wake from here on.
    pub(super) fn register(&self, waker: &Waker) {
        let mut known = self.waker.lock();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Ends the connection at once; what waits for it is dropped.
    pub(super) fn end_now(&self, code: u16, reason: &'static str) {
        self.killed.lock().get_or_insert((code, reason));
        self.wake();
    }

    pub(super) fn killed(&self) -> Option<(u16, &'static str)> {
        *self.killed.lock()
    }
}

/// Keeps a connection open; its drop is its end.
pub(super) struct Handle {
    pub(super) live: Arc<Live>,
    pub(super) client: Arc<Client>,
}

impl Handle {
    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    /// Tells the handler of the connection's end.
    pub(super) fn ends(&self, code: u16, reason: &str) {
        let mut state = self.client.state.lock();
        state
            .ending
            .get_or_insert_with(|| (code, reason.to_owned()));
    }

    /// The speaker of what comes on the connection.
    pub(super) fn speaker(&self) -> Speaker<'_> {
        Speaker {
            live: &self.live,
            client: &self.client,
        }
    }
}

/// A client that has something to say.
#[derive(Clone, Copy)]
pub(super) struct Speaker<'a> {
    pub(super) live: &'a Live,
    pub(super) client: &'a Client,
}

impl Speaker<'_> {
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

    /// A message of the client, for its handler. Whether it was heard.
    pub(super) fn received(&self, message: LiveMessage<'_>) -> bool {
        self.live().counters.received.fetch_add(1, Relaxed);
        self.live.received(self.client, message)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.live.closed(&self.client);
    }
}

impl Live {
    fn received(&self, client: &Client, message: LiveMessage<'_>) -> bool {
        let mut state = client.state.lock();
        self.settle(client, &mut state);
        let heard = self.heard(client, &mut state, |handler, state| {
            let context = Arc::clone(&state.slot().context);
            handler.received(&mut state.session, message, &context)
        });
        drop(state);
        if heard.is_none() {
            self.say(
                client,
                Out::Close(close::FAILED, "its handler failed".to_owned()),
            );
        }
        heard.is_some()
    }

    /// Tells the handler, and does what it asks for. A connection whose instance died is opened again first.
    fn heard(
        &self,
        client: &Client,
        state: &mut State,
        mut tell: impl FnMut(&LiveHandler, &mut State) -> Result<Outcome, LiveError>,
    ) -> Option<()> {
        let handler = state.handler();
        let mut told = tell(&handler, state);
        if matches!(told, Err(LiveError::Lost)) {
            self.reopen(client, state, Again::Lost)?;
            told = tell(&handler, state);
        }
        match told {
            Ok(Outcome::Effects(effects)) => {
                state.slot().metrics.count(DecisionKind::Live);
                self.act(client, state, effects);
                Some(())
            }
            Ok(Outcome::Refused { .. }) => Some(()),
            Err(LiveError::Lost) => None,
            Err(LiveError::Handler(error)) => {
                self.failed(state, &error);
                None
            }
        }
    }

    /// Opens a connection that never closed, with the handler that it has now.
    pub(super) fn reopen(&self, client: &Client, state: &mut State, again: Again) -> Option<()> {
        self.counters.reopened.fetch_add(1, Relaxed);
        let (handler, context) = (state.handler(), Arc::clone(&state.slot().context));
        match handler.reopened(&mut state.session, client.transport, again, &context) {
            Ok(Outcome::Effects(effects)) => {
                self.act(client, state, effects);
                Some(())
            }
            Ok(Outcome::Refused { reason, .. }) => {
                self.say(client, Out::Close(close::POLICY, reason));
                Some(())
            }
            Err(error) => {
                self.failed(state, &error);
                None
            }
        }
    }

    pub(super) fn failed(&self, state: &State, error: &HandlerError) {
        let _ = self
            .child
            .failed(state.slot(), error, state.session.request_id());
    }

    /// Does what a handler asked for, in its order.
    pub(super) fn act(&self, client: &Client, state: &mut State, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::User(user) => state.user = Some(user.into()),
                Effect::Text(text) => {
                    let out = match client.is_raw {
                        true => Out::Text(text.into()),
                        false => Out::Object(encode::of_handler(text.as_bytes())),
                    };
                    self.say(client, out);
                }
                Effect::Binary(bytes) => {
                    let out = match client.is_raw {
                        true => Out::Binary(bytes.into()),
                        false => Out::Object(encode::of_handler(&bytes)),
                    };
                    self.say(client, out);
                }
                Effect::Disconnect(code, reason) => self.say(client, Out::Close(code, reason)),
                Effect::Subscribe(channel, present) => {
                    let channel: Arc<str> = channel.into();
                    let member = state.user.clone().filter(|_| present);
                    let from = match state.is_new {
                        true => resumed_from(&state.session, &channel),
                        false => None,
                    };
                    // One that is subscribed already stays so.
                    self.subscribe(client, &channel, from, member, None);
                    if self.hub().is_subscribed(client.id, &channel) {
                        state.by_handler.insert(channel);
                    }
                }
                Effect::Unsubscribe(channel) => self.leave(client, state, &channel.into()),
                Effect::Presence(channel, present) => {
                    let channel: Arc<str> = channel.into();
                    let member = state.user.clone().filter(|_| present);
                    self.set_member(client.id, &channel, member);
                }
                Effect::Publish(channel, data, key) => {
                    let channel = channel.into();
                    self.publish(Ticket::Nobody, &channel, data.into(), key.as_deref());
                }
            }
        }
    }

    /// Subscribes a client; it is told, by `id` where it asked for it itself.
    pub(super) fn subscribe(
        &self,
        client: &Client,
        channel: &Arc<str>,
        from: Option<Position>,
        member: Option<Arc<str>>,
        id: Option<u64>,
    ) {
        let member = member.filter(|_| self.shows_presence(channel));
        let ticket = Ticket::Client(client.id, id);
        self.tell(|hub, now_ms| {
            let effects = hub.subscribe(now_ms, ticket, client.id, channel, from, member);
            match id {
                Some(_) => effects,
                None => hub::for_handler(hub, client, channel, effects),
            }
        });
    }

    /// Sets the name that others see of a client on a channel. It stays so, and misses nothing.
    fn set_member(&self, id: ConnectionId, channel: &Arc<str>, member: Option<Arc<str>>) {
        let member = member.filter(|_| self.shows_presence(channel));
        self.tell(|hub, now_ms| hub.set_member(now_ms, id, channel, member));
    }

    /// Ends a subscription as it was wished for, and the right that a token or its handler gave to it: who subscribes
    /// again needs, or has, another one.
    pub(super) fn leave(&self, client: &Client, state: &mut State, channel: &Arc<str>) {
        self.forget_token(client, state, channel);
        state.by_handler.remove(channel);
        self.unsubscribe(client.id, channel);
    }

    /// Whether it was subscribed.
    pub(super) fn unsubscribe(&self, id: ConnectionId, channel: &Arc<str>) -> bool {
        let mut was = false;
        self.tell(|hub, now_ms| {
            let (known, effects) = hub.unsubscribe(now_ms, id, channel);
            was = known;
            effects
        });
        was
    }

    pub(super) fn publish(
        &self,
        ticket: Ticket,
        channel: &Arc<str>,
        data: Bytes,
        key: Option<&str>,
    ) {
        self.counters.published.fetch_add(1, Relaxed);
        self.tell(|hub, now_ms| hub.publish(now_ms, ticket, channel, data, key));
    }

    fn shows_presence(&self, channel: &str) -> bool {
        let rules = self.rules();
        let namespace = channel.split(':').next();
        let namespace = namespace.and_then(|name| rules.namespaces.get(name));
        namespace.is_some_and(|namespace| namespace.presence)
    }

    /// A connection is gone.
    fn closed(&self, client: &Client) {
        let mut state = client.state.lock();
        let ending = state.ending.take();
        let (code, reason) = ending.unwrap_or((close::BROKEN, String::new()));
        self.settle(client, &mut state);
        let (handler, context) = (state.handler(), Arc::clone(&state.slot().context));
        match handler.closed(&mut state.session, code, &reason, &context) {
            Ok(Outcome::Effects(effects)) => self.act(client, &mut state, effects),
            Err(LiveError::Handler(error)) => self.failed(&state, &error),
            // One that is gone is not opened again to hear that it is.
            Ok(Outcome::Refused { .. }) | Err(LiveError::Lost) => {}
        }
        drop(state);
        self.tell(|hub, now_ms| hub.close(now_ms, client.id));
        self.clients.lock().remove(&client.id);
        self.forget_tokens(client);
        if let Some(session) = &client.session_id {
            self.sessions.lock().remove(session);
        }
    }
}

/// Where a client that comes back by `Last-Event-ID` was on a channel.
fn resumed_from(session: &Session, channel: &str) -> Option<Position> {
    let (of, position) = session.header("last-event-id")?.rsplit_once('@')?;
    (of == channel).then(|| position.parse().ok()).flatten()
}
