//! Calls of a client's handler, and what the handler asks for.

use super::{
    Live, Out, channels,
    client::{Client, ClientState},
    close, encode,
    hub::Ticket,
};
use protoplex_channels::{ConnectionId, Position};
use protoplex_child::metrics::DecisionKind;
use protoplex_handler::{
    Again, Effect, HandlerError, LiveError, LiveHandler, LiveMessage, Outcome, Session,
};
use std::sync::{Arc, atomic::Ordering::Relaxed};

impl Live {
    pub(super) fn received(&self, client: &Client, message: LiveMessage<'_>) -> bool {
        let mut state = client.state.lock();
        self.follow_build(client, &mut state);
        let called = self.call(client, &mut state, |handler, state| {
            let context = Arc::clone(&state.handler().context);
            handler.received(&mut state.session, message, &context)
        });
        drop(state);
        if called.is_none() {
            self.queue(
                client,
                Out::Close(close::FAILED, "its handler failed".to_owned()),
            );
        }
        called.is_some()
    }

    /// Calls the handler, and does what it asks for. A connection whose instance died is opened again first.
    fn call(
        &self,
        client: &Client,
        state: &mut ClientState,
        mut call: impl FnMut(&LiveHandler, &mut ClientState) -> Result<Outcome, LiveError>,
    ) -> Option<()> {
        let handler = state.live_handler();
        let mut outcome = call(&handler, state);
        if matches!(outcome, Err(LiveError::Lost)) {
            self.reopen(client, state, Again::Lost)?;
            outcome = call(&handler, state);
        }
        match outcome {
            Ok(Outcome::Effects(effects)) => {
                state.handler().metrics.count(DecisionKind::LIVE);
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
    pub(super) fn reopen(
        &self,
        client: &Client,
        state: &mut ClientState,
        again: Again,
    ) -> Option<()> {
        self.counters.reopened.fetch_add(1, Relaxed);
        let (handler, context) = (state.live_handler(), Arc::clone(&state.handler().context));
        match handler.reopened(&mut state.session, client.transport, again, &context) {
            Ok(Outcome::Effects(effects)) => {
                self.act(client, state, effects);
                Some(())
            }
            Ok(Outcome::Refused { reason, .. }) => {
                self.queue(client, Out::Close(close::POLICY, reason));
                Some(())
            }
            Err(error) => {
                self.failed(state, &error);
                None
            }
        }
    }

    pub(super) fn failed(&self, state: &ClientState, error: &HandlerError) {
        let _ = self
            .child
            .failed(state.handler(), error, state.session.request_id());
    }

    /// Does what a handler asked for, in its order.
    pub(super) fn act(&self, client: &Client, state: &mut ClientState, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::User(user) => state.user = Some(user.into()),
                Effect::Text(text) => {
                    let out = match client.is_raw {
                        true => Out::Text(text.into()),
                        false => Out::Object(encode::of_handler(text.as_bytes())),
                    };
                    self.queue(client, out);
                }
                Effect::Binary(bytes) => {
                    let out = match client.is_raw {
                        true => Out::Binary(bytes.into()),
                        false => Out::Object(encode::of_handler(&bytes)),
                    };
                    self.queue(client, out);
                }
                Effect::Disconnect(code, reason) => self.queue(client, Out::Close(code, reason)),
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

    /// Subscribes a client. The answer carries the `id` of its command; without one, its handler asked.
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
        self.apply(|hub, now_ms| {
            let effects = hub.subscribe(now_ms, ticket, client.id, channel, from, member);
            match id {
                Some(_) => effects,
                None => channels::subscribed_by_handler(hub, client, channel, effects),
            }
        });
    }

    /// Sets the name that others see of a client on a channel. The subscription goes on, and misses nothing.
    fn set_member(&self, id: ConnectionId, channel: &Arc<str>, member: Option<Arc<str>>) {
        let member = member.filter(|_| self.shows_presence(channel));
        self.apply(|hub, now_ms| hub.set_member(now_ms, id, channel, member));
    }

    /// Ends a subscription on request, and the right that a token or the handler gave to it: to subscribe again, the client
    /// needs another one.
    pub(super) fn leave(&self, client: &Client, state: &mut ClientState, channel: &Arc<str>) {
        self.connections.expiries.forget(client, state, channel);
        state.by_handler.remove(channel);
        self.unsubscribe(client.id, channel);
    }

    /// Ends a subscription. Returns whether there was one.
    pub(super) fn unsubscribe(&self, id: ConnectionId, channel: &Arc<str>) -> bool {
        let mut was_subscribed = false;
        self.apply(|hub, now_ms| {
            let (known, effects) = hub.unsubscribe(now_ms, id, channel);
            was_subscribed = known;
            effects
        });
        was_subscribed
    }

    fn shows_presence(&self, channel: &str) -> bool {
        let rules = self.rules();
        let namespace = channel.split(':').next();
        let namespace = namespace.and_then(|name| rules.namespaces.get(name));
        namespace.is_some_and(|namespace| namespace.presence)
    }

    /// Closes a connection whose transport has ended, and tells its handler.
    pub(super) fn close(&self, client: &Client) {
        let mut state = client.state.lock();
        let ending = state.ending.take();
        let (code, reason) = ending.unwrap_or((close::BROKEN, String::new()));
        self.follow_build(client, &mut state);
        let (handler, context) = (state.live_handler(), Arc::clone(&state.handler().context));
        match handler.closed(&mut state.session, code, &reason, &context) {
            Ok(Outcome::Effects(effects)) => self.act(client, &mut state, effects),
            Err(LiveError::Handler(error)) => self.failed(&state, &error),
            // One that is gone is not opened again to hear that it is.
            Ok(Outcome::Refused { .. }) | Err(LiveError::Lost) => {}
        }
        drop(state);
        self.apply(|hub, now_ms| hub.close(now_ms, client.id));
        self.connections.remove(client);
    }
}

/// The position on a channel that a client has by its `Last-Event-ID`.
fn resumed_from(session: &Session, channel: &str) -> Option<Position> {
    let (of, position) = session.header("last-event-id")?.rsplit_once('@')?;
    (of == channel).then(|| position.parse().ok()).flatten()
}
