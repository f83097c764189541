//! Long-lived connections of a live child: what comes on them goes to their handler, and what is published on their
//! channels goes to them, whatever their transport.
//!
//! A connection is a [`client::Client`] and an entry in the hub, which holds what waits for it. Transports pull from there
//! and know nothing of handlers; handlers know nothing of transports.

mod admission;
mod builtin;
mod client;
mod commands;
mod connect;
mod counters;
mod encode;
mod error_code;
mod events;
mod hub;
mod links;
mod moving;
mod origins;
mod poll;
mod rights;
mod role;
mod secrets;
mod watch;
mod websocket;

use arc_swap::ArcSwap;
use client::{Client, State};
use counters::Counters;
use hub::Hub;
use links::Links;
use parking_lot::{Mutex, MutexGuard};
use protoplex_channels::{Answer, ConnectionId, History, Memory, Overflow, Patience, Rules};
use protoplex_child::service::ChildContext;
use protoplex_control::awake::Awake;
use protoplex_wire::{
    manifest::{self, LiveLimits, Namespace},
    role::Role,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    future::Future,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{oneshot, watch::Sender as Watched};

use admission::Admission;
pub use role::{check_secrets, start};
use secrets::Secrets as LiveSecrets;

/// The channel protocol, as `Sec-WebSocket-Protocol` names it.
const PROTOCOL: &str = "protoplex.v1";
/// Between two looks at who has left, what is too old, and who has said nothing for too long.
const TICK: Duration = Duration::from_millis(250);
/// A manifest's check counts an item's cost as queues do.
const _: () = assert!(manifest::ITEM_BYTES == protoplex_channels::ITEM_BYTES as u64);
/// Members of a node that is heard of by links count as gone after such a silence: a few lost reports are no absence.
const PRESENCE_EXPIRES_MS: u64 = 30_000;

/// Items that wait for a connection besides messages and who came and left.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    /// An object of the channel protocol.
    Object(bytes::Bytes),
    /// Text of a handler to a connection without that protocol.
    Text(bytes::Bytes),
    /// Bytes of a handler to a connection without that protocol.
    Binary(bytes::Bytes),
    /// A message that a subscriber missed.
    Missed(u32, Arc<protoplex_channels::Message>),
    /// That the server goes away, and how many milliseconds to wait before coming back.
    Retry(u64),
    /// The end.
    Close(u16, String),
}

impl Out {
    fn bytes(&self) -> usize {
        match self {
            Self::Object(bytes) | Self::Text(bytes) | Self::Binary(bytes) => bytes.len(),
            Self::Missed(_, message) => message.data.len(),
            Self::Retry(_) => 0,
            Self::Close(_, reason) => reason.len(),
        }
    }
}

/// Everything live of a child.
pub(crate) struct Live {
    child: Arc<ChildContext>,
    /// Of the node: one of another role keeps no channel.
    role: Role,
    hub: Mutex<Hub>,
    links: Links,
    /// Requests of back ends that wait for an answer.
    requests: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    requests_ever: AtomicU64,
    admission: Admission,
    clients: Mutex<HashMap<ConnectionId, Arc<Client>>>,
    polls: poll::Polls,
    /// Connections that registered for keys, and the task to wake for each.
    watchers: Mutex<HashMap<ConnectionId, Option<Waker>>>,
    /// Sessions of clients whose commands come by requests of their own.
    sessions: Mutex<HashMap<Box<str>, ConnectionId>>,
    rules: Mutex<Arc<manifest::Live>>,
    /// Raised with every switch of builds.
    generation: AtomicU64,
    /// Clock of the channels: links and hand-overs are given up by time in which this process ran.
    clock: Mutex<Awake>,
    secrets: ArcSwap<LiveSecrets>,
    /// Subscriptions by the second of 1970 in which their token ends.
    expiries: Mutex<BTreeSet<(u64, ConnectionId, Arc<str>)>>,
    counters: Counters,
    /// Once this child drains: over what time it sends everybody away.
    draining: Watched<Option<Duration>>,
}

impl Live {
    /// From now on tokens are judged by these.
    pub(crate) fn set_secrets(&self, secrets: LiveSecrets) {
        self.secrets.store(Arc::new(secrets));
    }

    /// Without anybody. The rules come with the first build.
    fn new(
        child: Arc<ChildContext>,
        role: Role,
        secrets: LiveSecrets,
        admission: Admission,
    ) -> Self {
        Self {
            child,
            role,
            hub: Mutex::new(Hub::new(
                [(watch::NAMESPACE.into(), watch::RULES)],
                rand::random::<u64>,
                links::ME,
            )),
            links: Links::default(),
            requests: Mutex::default(),
            requests_ever: AtomicU64::new(0),
            admission,
            clients: Mutex::default(),
            polls: poll::Polls::default(),
            watchers: Mutex::default(),
            sessions: Mutex::default(),
            rules: Mutex::default(),
            generation: AtomicU64::new(0),
            clock: Mutex::new(Awake::new(Instant::now())),
            secrets: ArcSwap::from_pointee(secrets),
            expiries: Mutex::default(),
            counters: Counters::default(),
            draining: Watched::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        let awake = self.clock.lock().advance(Instant::now());
        u64::try_from(awake.as_millis()).unwrap_or(u64::MAX)
    }

    fn rules(&self) -> Arc<manifest::Live> {
        Arc::clone(&self.rules.lock())
    }

    /// A build with these rules answers from here on. Whether they refuse subscriptions that those before allowed.
    fn set_rules(&self, live: Option<&manifest::Live>) -> bool {
        let live = live.cloned().unwrap_or_default();
        let rules = live.namespaces.iter();
        let rules = rules.map(|(name, namespace)| (name.as_str().into(), rules_of(namespace)));
        let own = [(watch::NAMESPACE.into(), watch::RULES)];
        self.hub.lock().set_rules(rules.chain(own));
        let live = Arc::new(live);
        let before = std::mem::replace(&mut *self.rules.lock(), Arc::clone(&live));
        rights::are_narrowed(&before, &live)
    }

    /// Forgets who left, and what is too old. Until the child ends.
    pub(crate) async fn tick_all(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tell(Hub::tick);
            self.polls.expire(self.admission.is_crowded());
            self.end_expired();
        }
    }

    /// A client's right to a channel ends then, unless it brings another token.
    fn expire_at(&self, client: &Client, channel: &Arc<str>, exp: u64) {
        let mut state = client.state.lock();
        // A command may come by a request of its own, and be late: nothing would take out what it leaves here.
        if !self.clients.lock().contains_key(&client.id) {
            return;
        }
        self.forget_token(client, &mut state, channel);
        state.tokens.insert(Arc::clone(channel), exp);
        self.expiries
            .lock()
            .insert((exp, client.id, Arc::clone(channel)));
    }

    /// A client's right to a channel has no end that a token gave it: it left the channel, or brings another token.
    fn forget_token(&self, client: &Client, state: &mut State, channel: &Arc<str>) {
        if let Some(exp) = state.tokens.remove(channel) {
            let expiry = (exp, client.id, Arc::clone(channel));
            self.expiries.lock().remove(&expiry);
        }
    }

    /// Forgets the tokens of a client that is gone: they may live for days, and nobody waits for the end of these.
    fn forget_tokens(&self, client: &Client) {
        let tokens = std::mem::take(&mut client.state.lock().tokens);
        let mut expiries = self.expiries.lock();
        for (channel, exp) in tokens {
            expiries.remove(&(exp, client.id, channel));
        }
    }

    /// Ends subscriptions whose token has.
    fn end_expired(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        let mut due = Vec::new();
        {
            let mut expiries = self.expiries.lock();
            while expiries.first().is_some_and(|(exp, ..)| *exp <= now) {
                due.extend(expiries.pop_first());
            }
        }
        for (exp, id, channel) in due {
            let Some(client) = self.client(id) else {
                continue;
            };
            let is_last = client.state.lock().tokens.get(&channel) == Some(&exp);
            if is_last && self.unsubscribe(id, &channel) {
                let mut state = client.state.lock();
                state.tokens.remove(&channel);
                state.by_handler.remove(&channel);
                drop(state);
                self.say(
                    &client,
                    Out::Object(encode::ended(
                        &channel,
                        secrets::Refused::Expired.code(),
                        &secrets::Refused::Expired.to_string(),
                    )),
                );
            }
        }
    }

    /// Sends everybody away whose transport does not hear of a drain by itself, over a while; who comes later, at once.
    pub(crate) fn drain(live: &Arc<Live>, window: Duration) {
        live.draining.send_replace(Some(window));
        let clients: Vec<_> = live.clients.lock().values().cloned().collect();
        for client in clients
            .into_iter()
            .filter(|client| !client.hears_of_drains())
        {
            let live = Arc::clone(live);
            tokio::spawn(async move {
                tokio::time::sleep(window.mul_f64(rand::random())).await;
                live.send_away(&client);
            });
        }
    }

    /// One who has just come, and is in `clients`, hears of a drain that has begun.
    fn send_late_comer_away(&self, client: &Client) {
        if !client.hears_of_drains() && self.draining.borrow().is_some() {
            self.send_away(client);
        }
    }

    /// Returns when one who waits here for changes has to go: some time after a drain began.
    fn told_to_go(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut draining = self.draining.subscribe();
        async move {
            // Without a sender there is nobody to wait for.
            let window = draining.wait_for(Option::is_some).await;
            let window = window.ok().and_then(|window| *window);
            tokio::time::sleep(window.unwrap_or_default().mul_f64(rand::random())).await;
        }
    }

    /// Tells a client to come back, to whoever is there then.
    fn send_away(&self, client: &Client) {
        self.say(client, Out::Retry(client::come_back_ms()));
        self.say(client, Out::Close(close::RESTART, "come back".to_owned()));
    }

    /// Names the nodes of the fleet: their own requests are under no limit by address.
    pub(crate) fn set_fleet(&self, nodes: HashSet<IpAddr>) {
        self.admission.shares.set_fleet(nodes);
    }

    /// Clients that were refused, by cause.
    pub(crate) fn refused(&self) -> [(&'static str, u64); 3] {
        let [address, child] = self.admission.refused();
        let foreign = self.counters.foreign.load(Ordering::Relaxed);
        [address, child, ("live-origin", foreign)]
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock()
    }
}

/// Codes with which connections are closed, beside those of RFC 6455.
mod close {
    pub(super) use protoplex_websocket::code::{GOING_AWAY, NORMAL, POLICY, RESTART};
    /// None was given (RFC 6455, section 7.4.1).
    pub(super) const NONE: u16 = 1005;
    /// The connection broke (RFC 6455, section 7.4.1).
    pub(super) const BROKEN: u16 = 1006;
    /// The handler failed.
    pub(super) const FAILED: u16 = 1011;
    /// The client cannot have now what it came for (IANA, WebSocket close codes).
    pub(super) const TRY_AGAIN: u16 = 1013;
    /// The client does not keep up; it may come back, and ask for what it missed.
    pub(super) const SLOW: u16 = 4000;
}

fn rules_of(namespace: &Namespace) -> Rules {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Rules {
        history: History {
            messages_max: namespace.history_messages_max as usize,
            bytes_max: size(namespace.history_bytes_max),
            age_ms_max: namespace.history_ms_max,
        },
        overflow: match namespace.overflow {
            manifest::Overflow::Disconnect => Overflow::Disconnect,
            manifest::Overflow::DropOldest => Overflow::DropOldest,
            manifest::Overflow::LatestOnly => Overflow::LatestOnly,
        },
        memory: Memory {
            keys_max: namespace.keys_max as usize,
            age_ms_max: namespace.keys_ms_max,
        },
        patience: Patience {
            leave_after_ms: namespace.leave_after_ms,
            expires_after_ms: PRESENCE_EXPIRES_MS,
        },
        message_bytes_max: size(namespace.message_bytes_max),
        subscribers_max: namespace.subscribers_max as usize,
    }
}

fn connection_limits(limits: &LiveLimits) -> protoplex_channels::ConnectionLimits {
    protoplex_channels::ConnectionLimits {
        queue_bytes_max: usize::try_from(limits.queue_bytes_max).unwrap_or(usize::MAX),
        subscriptions_max: limits.subscriptions_max as usize,
    }
}
