//! The one way to the channels: an event goes in, and what follows is done before the next one: answers are queued, who
//! has something to write is woken, who does not keep up is closed, and other children are told.

use super::{Live, Out, client::Client, close, encode};
use protoplex_channels::{
    Answer, ConnectionId, Effects, ITEM_BYTES, Item, Mesh, Refusal, Said, Subscribed,
};
use std::sync::{Arc, atomic::Ordering::Relaxed};
use tokio::sync::oneshot;

pub(super) type Hub = Mesh<Ticket, Out>;
pub(super) type LiveItem = Item<Said<Out>>;

/// The one who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ticket {
    /// A client, by the id of its command; a handler subscribed it where there is none.
    Client(ConnectionId, Option<u64>),
    /// One who registered for a key.
    Watch(ConnectionId),
    /// A request, by its number.
    Request(u64),
    /// Nobody.
    Nobody,
}

impl Live {
    /// Tells the channels something.
    pub(super) fn tell(&self, event: impl FnOnce(&mut Hub, u64) -> Effects<Ticket>) {
        let now_ms = self.now_ms();
        let mut hub = self.hub.lock();
        let effects = event(&mut hub, now_ms);
        let effects = self.hand_on(&mut hub, effects);
        self.links.send(effects.send, effects.connect);
        drop(hub);
        self.stir(effects.wake, effects.close);
    }

    /// Queues the answers of one event: where several come in one call, before the next, whose messages would else be
    /// queued before the answer to the subscription that they belong to.
    pub(super) fn hand_on(&self, hub: &mut Hub, mut effects: Effects<Ticket>) -> Effects<Ticket> {
        // What answers say may wake and close others, and is never answered itself.
        for (ticket, answer) in std::mem::take(&mut effects.answers) {
            let more = self.answered(hub, ticket, answer);
            effects.wake.extend(more.wake);
            effects.close.extend(more.close);
        }
        effects
    }

    fn answered(&self, hub: &mut Hub, ticket: Ticket, answer: Answer) -> Effects<Ticket> {
        match ticket {
            Ticket::Nobody => {
                if let Answer::Published(Err(refusal)) = answer {
                    tracing::warn!(?refusal, "a handler's message was not published");
                }
                Effects::default()
            }
            Ticket::Watch(id) => match answer {
                Answer::Subscribed(Ok(_)) => hub.reply(id, Out::Object(bytes::Bytes::new()), 0),
                // Asked for again, after what may have been missed.
                _ => hub.reply(id, Out::Close(close::BROKEN, String::new()), 0),
            },
            Ticket::Request(number) => {
                let waiting = self.requests.lock().remove(&number);
                // Who does not wait any more is not told.
                let _ = waiting.map(|waiting| waiting.send(answer));
                Effects::default()
            }
            Ticket::Client(client, id) => {
                let Some(known) = self.client(client) else {
                    return Effects::default();
                };
                match answer {
                    Answer::Subscribed(Ok(subscribed)) => {
                        self.subscribed(hub, &known, id, subscribed)
                    }
                    Answer::Published(Ok(published)) => {
                        let position = published.position;
                        let told = id.map(|id| encode::published(id, position));
                        say(hub, &known, told)
                    }
                    Answer::Members(Ok(members)) => {
                        let told = id.map(|id| encode::members(id, &members));
                        say(hub, &known, told)
                    }
                    Answer::Subscribed(Err(refusal))
                    | Answer::Published(Err(refusal))
                    | Answer::Members(Err(refusal)) => {
                        // Of what a handler asked for, see [`for_handler`].
                        let told = id.map(|id| refused(id, &refusal));
                        say(hub, &known, told)
                    }
                }
            }
        }
    }

    fn subscribed(
        &self,
        hub: &mut Hub,
        client: &Client,
        id: Option<u64>,
        mut subscribed: Subscribed,
    ) -> Effects<Ticket> {
        let channel = hub.channel_of(client.id, subscribed.subscription).cloned();
        let channel = channel.unwrap_or_default();
        let tell = |subscribed: &Subscribed| {
            (!client.is_raw).then(|| encode::subscribed(id, &channel, subscribed))
        };
        let mut told = tell(&subscribed);
        let missed = subscribed.missed.iter().map(|message| message.data.len());
        let bytes = missed.chain(told.iter().map(bytes::Bytes::len));
        // It would be closed for what it cannot help, come back for the same, and never recover.
        if bytes.map(|bytes| ITEM_BYTES + bytes).sum::<usize>() > hub.room(client.id) {
            subscribed.missed.clear();
            subscribed.recovered = subscribed.recovered.map(|_| false);
            told = tell(&subscribed);
        }
        let mut effects = say(hub, client, told);
        for message in subscribed.missed {
            let bytes = message.data.len();
            let missed = Out::Missed(subscribed.subscription, message);
            let more = hub.reply(client.id, missed, bytes);
            effects.wake.extend(more.wake);
            effects.close.extend(more.close);
        }
        effects
    }

    /// Something of ours waits for a client, behind all that does.
    pub(super) fn say(&self, client: &Client, out: Out) {
        let bytes = out.bytes();
        self.tell(|hub, _| hub.reply(client.id, out, bytes));
    }

    /// Asks the channels on behalf of a request; the answer may take a while.
    pub(super) fn ask(
        &self,
        event: impl FnOnce(&mut Hub, u64, Ticket) -> Effects<Ticket>,
    ) -> oneshot::Receiver<Answer> {
        let number = self.requests_ever.fetch_add(1, Relaxed);
        let (sender, answer) = oneshot::channel();
        self.requests.lock().insert(number, sender);
        self.tell(|hub, now_ms| event(hub, now_ms, Ticket::Request(number)));
        answer
    }

    pub(super) fn client(&self, id: ConnectionId) -> Option<Arc<Client>> {
        self.clients.lock().get(&id).cloned()
    }

    /// The client of a session.
    pub(super) fn of_session(&self, session: &str) -> Option<Arc<Client>> {
        let id = self.sessions.lock().get(session).copied();
        id.and_then(|id| self.client(id))
    }

    fn stir(&self, wake: Vec<ConnectionId>, close: Vec<ConnectionId>) {
        if wake.is_empty() && close.is_empty() {
            return;
        }
        let clients = self.clients.lock();
        for id in &wake {
            match clients.get(id) {
                Some(client) => client.wake(),
                None => self.stir_watcher(*id),
            }
        }
        let (ours, watchers): (Vec<_>, Vec<_>) =
            close.iter().partition(|id| clients.contains_key(id));
        for client in ours.iter().filter_map(|id| clients.get(id)) {
            self.counters.slow.fetch_add(1, Relaxed);
            let (address, connection) = (client.address, client.id);
            tracing::warn!(%address, connection, transport = ?client.transport, "a connection does not keep up, and is closed");
            client.end_now(close::SLOW, "it does not keep up");
        }
        drop(clients);
        watchers.into_iter().for_each(|id| self.end_watcher(id));
    }
}

/// Goes on with a subscription that a handler has just asked for. The client asked for nothing itself, and would not ask
/// again: it waits for an owner out of reach for as long as it takes, and is told, or closed where it has no words for
/// that, of what it cannot have.
pub(super) fn for_handler(
    hub: &mut Hub,
    client: &Client,
    channel: &str,
    mut effects: Effects<Ticket>,
) -> Effects<Ticket> {
    hub.wait_on(client.id, channel);
    let refused = effects.answers.iter().find_map(|(ticket, answer)| {
        let ours = matches!(ticket, Ticket::Client(id, None) if *id == client.id);
        match answer {
            Answer::Subscribed(Err(refusal)) if ours => Some(refusal),
            _ => None,
        }
    });
    // What was asked for twice is there, and who is gone needs nothing.
    let needless = |refusal: &Refusal| {
        use Refusal::{NoConnection, Subscribed, Unsubscribed};
        matches!(refusal, Subscribed | Unsubscribed | NoConnection)
    };
    let Some(refusal) = refused.filter(|refusal| !needless(refusal)) else {
        return effects;
    };
    let (code, message) = encode::refusal(refusal);
    tracing::warn!(connection = client.id, channel, %message, "a handler's subscription was refused");
    let out = match client.is_raw {
        true => Out::Close(close::TRY_AGAIN, message),
        false => Out::Object(encode::ended(channel, code, &message)),
    };
    let bytes = out.bytes();
    let told = hub.reply(client.id, out, bytes);
    effects.wake.extend(told.wake);
    effects.close.extend(told.close);
    effects
}

fn say(hub: &mut Hub, client: &Client, object: Option<bytes::Bytes>) -> Effects<Ticket> {
    let Some(object) = object else {
        return Effects::default();
    };
    let bytes = object.len();
    hub.reply(client.id, Out::Object(object), bytes)
}

fn refused(id: u64, refusal: &Refusal) -> bytes::Bytes {
    let (code, message) = encode::refusal(refusal);
    encode::error(Some(id), code, &message)
}
