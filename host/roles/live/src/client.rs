//! One connection, whatever its transport: its handler's side, and the way to wake its transport.

use super::Live;
use parking_lot::Mutex;
use protoplex_channels::ConnectionId;
use protoplex_child::build::{Code, LoadedBuild, LoadedHandler};
use protoplex_handler::{LiveHandler, Session, Transport};
use protoplex_net::Share;
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64},
    task::Waker,
};

/// Clients that are sent away come back at a moment of their own within so many milliseconds.
const COME_BACK_MS: u64 = 2_000;

/// Milliseconds that a client which is sent away should wait.
pub(super) fn come_back_ms() -> u64 {
    rand::random_range(0..COME_BACK_MS)
}

/// What a client is made of, when its handler has let it in.
pub(super) struct Opened {
    pub(super) id: ConnectionId,
    pub(super) transport: Transport,
    /// Whether the connection is without the channel protocol.
    pub(super) is_raw: bool,
    pub(super) address: IpAddr,
    pub(super) share: Share,
    pub(super) build: Arc<LoadedBuild>,
    pub(super) handler_index: usize,
    pub(super) session: Session,
    /// The value of [`Live::generation`] before the handler was called.
    pub(super) generation: u64,
}

/// A live connection, whatever its transport: the handler's side of it, and the task to wake.
pub(super) struct Client {
    pub(super) id: ConnectionId,
    pub(super) transport: Transport,
    /// Whether the connection is without the channel protocol: messages go to the handler as they are, and back.
    pub(super) is_raw: bool,
    pub(super) address: IpAddr,
    /// Unguessable name by which requests with commands find the client. A WebSocket needs none.
    pub(super) session_id: Option<Box<str>>,
    pub(super) share: Share,
    /// When the client's whole burst of messages is free again, on the clock of all shares.
    pub(super) messages_full_at_ns: AtomicU64,
    pub(super) state: Mutex<ClientState>,
    waker: Mutex<Option<Waker>>,
    /// Code and reason with which the connection is to end at once, whatever waits for it.
    killed: Mutex<Option<(u16, &'static str)>>,
}

/// The handler's side of a client.
pub(super) struct ClientState {
    pub(super) build: Arc<LoadedBuild>,
    /// Index of its handler in the build.
    pub(super) handler_index: usize,
    pub(super) session: Session,
    /// The value of [`Live::generation`] when the client's build was last looked at.
    pub(super) generation: u64,
    /// Whether the client has just connected, and may have said which message it had last.
    pub(super) is_new: bool,
    pub(super) user: Option<Arc<str>>,
    /// By channel, the second of 1970 in which the token for it ends.
    pub(super) tokens: HashMap<Arc<str>, u64>,
    /// Channels to which the handler subscribed the client: these need no other right.
    pub(super) by_handler: HashSet<Arc<str>>,
    /// Code and reason of the connection's end, once it has ended.
    pub(super) ending: Option<(u16, String)>,
}

impl ClientState {
    pub(super) fn handler(&self) -> &LoadedHandler {
        &self.build.handlers[self.handler_index]
    }

    pub(super) fn live_handler(&self) -> Arc<LiveHandler> {
        match &self.handler().code {
            Code::Live(handler) => Arc::clone(handler),
            _ => unreachable!("a connection is opened, and moved, by a live handler"),
        }
    }
}

impl Client {
    pub(super) fn new(opened: Opened) -> Self {
        let Opened {
            id,
            transport,
            is_raw,
            address,
            share,
            build,
            handler_index,
            session,
            generation,
        } = opened;
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
            state: Mutex::new(ClientState {
                build,
                handler_index,
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

    /// Whether the transport ends the connection by itself when the child drains.
    pub(super) fn ends_on_drain(&self) -> bool {
        self.transport == Transport::WebSocket
    }

    /// Sets the task to wake when something waits for the client.
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

/// Keeps a connection open, until this is dropped.
pub(super) struct Handle {
    pub(super) live: Arc<Live>,
    pub(super) client: Arc<Client>,
}

impl Handle {
    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    /// Sets the code and reason of which the handler hears when the connection is closed.
    pub(super) fn ends(&self, code: u16, reason: &str) {
        let mut state = self.client.state.lock();
        state
            .ending
            .get_or_insert_with(|| (code, reason.to_owned()));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.live.close(&self.client);
    }
}
