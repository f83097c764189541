//! Long-lived connections of a live child: what comes on them goes to their handler, and what is published on their
//! channels goes to them, whatever their transport.
//!
//! A connection is a [`client::Client`] and an entry in the hub, which holds what waits for it. Transports pull from there
//! and know nothing of handlers; handlers know nothing of transports.

mod admission;
mod arguments;
mod builtin;
mod channels;
mod client;
mod commands;
mod connect;
mod connections;
mod counters;
mod encode;
mod error_code;
mod events;
mod expiries;
mod handler_calls;
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
use channels::Channels;
use client::Client;
use connections::Connections;
use counters::Counters;
use hub::Hub;
use parking_lot::Mutex;
use protoplex_channels::{History, Memory, Overflow, PresenceDelays, Rules};
use protoplex_child::context::ChildContext;
use protoplex_wire::{
    manifest::{self, LiveLimits, Namespace},
    role::Role,
};
use std::{
    collections::HashSet,
    future::Future,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch::Sender as Watched;

use admission::Admission;
pub use role::{check_secrets, start};
use secrets::Secrets as LiveSecrets;

/// The channel protocol, as `Sec-WebSocket-Protocol` names it.
const PROTOCOL: &str = "protoplex.v1";
/// Period of the clean-up: presence, history, tokens and sessions that poll.
const TICK: Duration = Duration::from_millis(250);
/// A manifest's check counts an item's cost as queues do.
const _: () = assert!(manifest::ITEM_BYTES == protoplex_channels::ITEM_BYTES as u64);
/// Members of a node that is heard of by links count as gone after such a silence: a few lost reports are no absence.
const PRESENCE_EXPIRES_MS: u64 = 30_000;

/// An item that waits for a connection, beside messages and presence.
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

/// The live connections and channels of a child.
///
/// # Lock order
///
/// A lock is taken while locks above it in this list are held, or none; never the other way round:
///
/// 1. the sessions that poll ([`poll::Polls`]), then the batches of one of them;
/// 2. the state of a client ([`Client`]);
/// 3. the hub ([`Channels`]);
/// 4. the table of links, under the hub ([`links::Links::table_under`]), or alone for a look;
/// 5. the clients, then the registrations for keys ([`Connections`]);
/// 6. any other lock: nothing else is taken while one of those is held.
pub(crate) struct Live {
    child: Arc<ChildContext>,
    /// The node's role: one that keeps no connections has only registrations for keys.
    role: Role,
    channels: Channels,
    connections: Connections,
    admission: Admission,
    rules: Mutex<Arc<manifest::Live>>,
    /// Raised with every switch of builds.
    generation: AtomicU64,
    secrets: ArcSwap<LiveSecrets>,
    counters: Counters,
    /// Set when this child drains: the time over which it sends everybody away.
    draining: Watched<Option<Duration>>,
}

impl Live {
    /// Judges tokens by these secrets from now on.
    pub(crate) fn set_secrets(&self, secrets: LiveSecrets) {
        self.secrets.store(Arc::new(secrets));
    }

    /// Starts without anybody. The rules come with the first build.
    fn new(
        child: Arc<ChildContext>,
        role: Role,
        secrets: LiveSecrets,
        admission: Admission,
    ) -> Self {
        Self {
            child,
            role,
            channels: Channels::new(),
            connections: Connections::default(),
            admission,
            rules: Mutex::default(),
            generation: AtomicU64::new(0),
            secrets: ArcSwap::from_pointee(secrets),
            counters: Counters::default(),
            draining: Watched::default(),
        }
    }

    fn rules(&self) -> Arc<manifest::Live> {
        Arc::clone(&self.rules.lock())
    }

    /// Sets the rules of the build that answers from here on. Returns whether they refuse subscriptions that were allowed.
    fn set_rules(&self, live: Option<&manifest::Live>) -> bool {
        let live = live.cloned().unwrap_or_default();
        let rules = live.namespaces.iter();
        let rules = rules.map(|(name, namespace)| (name.as_str().into(), rules_of(namespace)));
        self.channels.set_rules(rules);
        let live = Arc::new(live);
        let before = std::mem::replace(&mut *self.rules.lock(), Arc::clone(&live));
        rights::are_narrowed(&before, &live)
    }

    /// Forgets connections that left, and what is too old, until the child ends.
    pub(crate) async fn tick_all(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.apply(Hub::tick);
            self.connections.polls.expire(self.admission.is_crowded());
            self.end_expired();
        }
    }

    /// Sends away clients whose transport does not end on a drain by itself: over the window, and later ones at once.
    pub(crate) fn drain(live: &Arc<Live>, window: Duration) {
        live.draining.send_replace(Some(window));
        let clients = live.connections.all();
        for client in clients.into_iter().filter(|client| !client.ends_on_drain()) {
            let (live, child) = (Arc::clone(live), Arc::clone(&live.child));
            child.background.spawn(async move {
                tokio::time::sleep(window.mul_f64(rand::random())).await;
                live.send_away(&client);
            });
        }
    }

    /// Sends a client away that has just been added, where a drain has begun.
    fn send_away_if_draining(&self, client: &Client) {
        if !client.ends_on_drain() && self.draining.borrow().is_some() {
            self.send_away(client);
        }
    }

    /// Returns when a request that waits here for changes has to end: at a random moment of the drain window.
    fn drain_moment(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut draining = self.draining.subscribe();
        async move {
            // Without a sender there is nobody to wait for.
            let window = draining.wait_for(Option::is_some).await;
            let window = window.ok().and_then(|window| *window);
            tokio::time::sleep(window.unwrap_or_default().mul_f64(rand::random())).await;
        }
    }

    /// Closes a client, and asks it to connect again, to another child.
    fn send_away(&self, client: &Client) {
        self.queue(client, Out::Retry(client::come_back_ms()));
        self.queue(client, Out::Close(close::RESTART, "come back".to_owned()));
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
}

/// Codes with which connections are closed, beside those of RFC 6455.
mod close {
    pub(super) use protoplex_websocket::code::{GOING_AWAY, NORMAL, POLICY, RESTART};
    /// The client gave no code (RFC 6455, section 7.4.1).
    pub(super) const NONE: u16 = 1005;
    /// A message of that kind is not taken (RFC 6455, section 7.4.1).
    pub(super) const UNSUPPORTED: u16 = 1003;
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
        presence: PresenceDelays {
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
