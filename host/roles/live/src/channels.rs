//! The one way to the channels: an event goes in, and what follows is done before the next one: answers are queued,
//! clients with something to read are woken, clients that do not keep up are closed, and other children get their frames.

use super::{
    Live, Out,
    client::Client,
    close, encode,
    hub::{Hub, Ticket},
    links::Links,
    watch,
};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use protoplex_channels::{Answer, ConnectionId, Effects, ITEM_BYTES, Refusal, Rules, Subscribed};
use protoplex_control::awake::Awake;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::sync::oneshot;

/// The channels of this child: the hub, and the links by which it reaches other children. Both are private, so that they
/// are locked in one order: the hub first, and the links' table under it ([`Links::table_under`]).
pub(super) struct Channels {
    hub: Mutex<Hub>,
    pub(super) links: Links,
    /// Requests of back ends that wait for an answer.
    requests: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    requests_ever: AtomicU64,
    /// Links and hand-overs are given up by time in which this process ran.
    clock: Mutex<Awake>,
}

impl Channels {
    pub(super) fn new() -> Self {
        Self {
            hub: Mutex::new(Hub::new(
                [(watch::NAMESPACE.into(), watch::RULES)],
                rand::random::<u64>,
                super::links::ME,
            )),
            links: Links::default(),
            requests: Mutex::default(),
            requests_ever: AtomicU64::new(0),
            clock: Mutex::new(Awake::new(Instant::now())),
        }
    }

    /// Locks the hub, for what has no effects on others.
    pub(super) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock()
    }

    /// Sets the rules of a build's namespaces, beside the platform's own.
    pub(super) fn set_rules(&self, rules: impl Iterator<Item = (Box<str>, Rules)>) {
        let own = [(watch::NAMESPACE.into(), watch::RULES)];
        self.hub().set_rules(rules.chain(own));
    }

    fn now_ms(&self) -> u64 {
        let awake = self.clock.lock().advance(Instant::now());
        u64::try_from(awake.as_millis()).unwrap_or(u64::MAX)
    }

    /// Gives the answer to a request of a back end, unless that has gone.
    pub(super) fn answer_request(&self, number: u64, answer: Answer) {
        let waiting = self.requests.lock().remove(&number);
        let _ = waiting.map(|waiting| waiting.send(answer));
    }
}

impl Live {
    /// Gives the channels an event, and does what follows from it. `event` gets the hub and the time.
    pub(super) fn apply(&self, event: impl FnOnce(&mut Hub, u64) -> Effects<Ticket>) {
        let channels = &self.channels;
        let now_ms = channels.now_ms();
        let mut hub = channels.hub();
        let effects = event(&mut hub, now_ms);
        let effects = self.queue_answers(&mut hub, effects);
        channels.links.send(&hub, effects.send, effects.connect);
        drop(hub);
        self.wake(&effects.wake, &effects.close);
    }

    /// Queues the answers of one event. Where several events come in one call, this is done after each: the messages of the
    /// next would else be queued before the answer to the subscription that they belong to.
    pub(super) fn queue_answers(
        &self,
        hub: &mut Hub,
        mut effects: Effects<Ticket>,
    ) -> Effects<Ticket> {
        // Queued answers may wake and close others, and are never answered themselves.
        for (ticket, answer) in std::mem::take(&mut effects.answers) {
            let more = queue_answer(self, hub, ticket, answer);
            effects.wake.extend(more.wake);
            effects.close.extend(more.close);
        }
        effects
    }

    /// Queues an item for a client, behind all that waits for it.
    pub(super) fn queue(&self, client: &Client, out: Out) {
        let bytes = out.bytes();
        self.apply(|hub, _| hub.reply(client.id, out, bytes));
    }

    /// Publishes a message on a channel.
    pub(super) fn publish(
        &self,
        ticket: Ticket,
        channel: &Arc<str>,
        data: Bytes,
        key: Option<&str>,
    ) {
        self.counters.published.fetch_add(1, Relaxed);
        self.apply(|hub, now_ms| hub.publish(now_ms, ticket, channel, data, key));
    }

    /// Asks the channels on behalf of a request; the answer may take a while.
    pub(super) fn ask(
        &self,
        event: impl FnOnce(&mut Hub, u64, Ticket) -> Effects<Ticket>,
    ) -> oneshot::Receiver<Answer> {
        let number = self.channels.requests_ever.fetch_add(1, Relaxed);
        let (sender, answer) = oneshot::channel();
        self.channels.requests.lock().insert(number, sender);
        self.apply(|hub, now_ms| event(hub, now_ms, Ticket::Request(number)));
        answer
    }

    pub(super) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.channels.hub()
    }

    /// Wakes connections that have something to read, and closes those that do not keep up.
    fn wake(&self, wake: &[ConnectionId], close: &[ConnectionId]) {
        if wake.is_empty() && close.is_empty() {
            return;
        }
        let watchers = self.connections.wake(wake, close, &self.counters);
        watchers.into_iter().for_each(|id| self.end_watcher(id));
    }
}

/// Queues the answer to one ticket, in the words of whoever asked.
fn queue_answer(live: &Live, hub: &mut Hub, ticket: Ticket, answer: Answer) -> Effects<Ticket> {
    match ticket {
        Ticket::Nobody => {
            if let Answer::Published(Err(refusal)) = answer {
                tracing::warn!(?refusal, "a handler's message was not published");
            }
            Effects::default()
        }
        Ticket::Watch(id) => match answer {
            Answer::Subscribed(Ok(_)) => hub.reply(id, Out::Object(bytes::Bytes::new()), 0),
            // The registration subscribes again: it may have missed something.
            _ => hub.reply(id, Out::Close(close::BROKEN, String::new()), 0),
        },
        Ticket::Request(number) => {
            live.channels.answer_request(number, answer);
            Effects::default()
        }
        Ticket::Client(client, id) => {
            let Some(client) = live.connections.client(client) else {
                return Effects::default();
            };
            for_client(hub, &client, id, answer)
        }
    }
}

fn for_client(hub: &mut Hub, client: &Client, id: Option<u64>, answer: Answer) -> Effects<Ticket> {
    let object = match answer {
        Answer::Subscribed(Ok(subscribed)) => return subscription(hub, client, id, subscribed),
        Answer::Published(Ok(published)) => id.map(|id| encode::published(id, published.position)),
        Answer::Members(Ok(members)) => id.map(|id| encode::members(id, &members)),
        // A handler's subscription has no id: `subscribed_by_handler` says what was refused.
        Answer::Subscribed(Err(refusal))
        | Answer::Published(Err(refusal))
        | Answer::Members(Err(refusal)) => id.map(|id| refused(id, &refusal)),
    };
    queue_object(hub, client, object)
}

fn subscription(
    hub: &mut Hub,
    client: &Client,
    id: Option<u64>,
    mut subscribed: Subscribed,
) -> Effects<Ticket> {
    let channel = hub.channel_of(client.id, subscribed.subscription).cloned();
    let channel = channel.unwrap_or_default();
    let object = |subscribed: &Subscribed| {
        (!client.is_raw).then(|| encode::subscribed(id, &channel, subscribed))
    };
    let mut answer = object(&subscribed);
    let missed = subscribed.missed.iter().map(|message| message.data.len());
    let bytes = missed.chain(answer.iter().map(bytes::Bytes::len));
    // Without room the client would be closed for what it cannot help, come back for the same, and never recover.
    if bytes.map(|bytes| ITEM_BYTES + bytes).sum::<usize>() > hub.room(client.id) {
        subscribed.missed.clear();
        subscribed.recovered = subscribed.recovered.map(|_| false);
        answer = object(&subscribed);
    }
    let mut effects = queue_object(hub, client, answer);
    for message in subscribed.missed {
        let bytes = message.data.len();
        let missed = Out::Missed(subscribed.subscription, message);
        let more = hub.reply(client.id, missed, bytes);
        effects.wake.extend(more.wake);
        effects.close.extend(more.close);
    }
    effects
}

/// Goes on with a subscription that a handler has just asked for. The client asked for nothing itself, and would not ask
/// again: it waits for an owner out of reach for as long as it takes. A refusal is queued for it, or closes it where its
/// protocol has no words for that.
pub(super) fn subscribed_by_handler(
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
    // A second subscription changes nothing, and a connection that is gone needs none.
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
    let more = hub.reply(client.id, out, bytes);
    effects.wake.extend(more.wake);
    effects.close.extend(more.close);
    effects
}

fn queue_object(hub: &mut Hub, client: &Client, object: Option<bytes::Bytes>) -> Effects<Ticket> {
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
