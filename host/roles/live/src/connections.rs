//! Everybody who is connected: clients, their sessions, clients that poll, and registrations for keys.

use super::{client::Client, close, counters::Counters, expiries::TokenExpiries, poll::Polls};
use parking_lot::Mutex;
use protoplex_channels::ConnectionId;
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Waker,
};

/// The connections of this child, by what they are found by.
#[derive(Default)]
pub(super) struct Connections {
    clients: Mutex<HashMap<ConnectionId, Arc<Client>>>,
    /// Sessions of clients whose commands come by requests of their own.
    sessions: Mutex<HashMap<Box<str>, ConnectionId>>,
    /// Registrations for keys, and the task to wake for each.
    watchers: Mutex<HashMap<ConnectionId, Option<Waker>>>,
    pub(super) polls: Polls,
    pub(super) expiries: TokenExpiries,
}

impl Connections {
    pub(super) fn add(&self, client: &Arc<Client>) {
        self.clients.lock().insert(client.id, Arc::clone(client));
        if let Some(session) = &client.session_id {
            self.sessions.lock().insert(session.clone(), client.id);
        }
    }

    pub(super) fn remove(&self, client: &Client) {
        self.clients.lock().remove(&client.id);
        self.expiries.forget_all(client);
        if let Some(session) = &client.session_id {
            self.sessions.lock().remove(session);
        }
    }

    pub(super) fn has(&self, id: ConnectionId) -> bool {
        self.clients.lock().contains_key(&id)
    }

    pub(super) fn client(&self, id: ConnectionId) -> Option<Arc<Client>> {
        self.clients.lock().get(&id).cloned()
    }

    /// The client of a session.
    pub(super) fn of_session(&self, session: &str) -> Option<Arc<Client>> {
        let id = self.sessions.lock().get(session).copied();
        id.and_then(|id| self.client(id))
    }

    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        self.clients.lock().values().cloned().collect()
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.clients.lock().keys().copied().collect()
    }

    /// Adds a registration, or sets the task that waits for its next change.
    pub(super) fn set_watcher(&self, id: ConnectionId, waker: Option<Waker>) {
        self.watchers.lock().insert(id, waker);
    }

    pub(super) fn remove_watcher(&self, id: ConnectionId) {
        self.watchers.lock().remove(&id);
    }

    pub(super) fn wake_watcher(&self, id: ConnectionId) {
        if let Some(Some(waker)) = self.watchers.lock().get(&id) {
            waker.wake_by_ref();
        }
    }

    /// Wakes connections, and ends clients that do not keep up. Returns the registrations that do not.
    pub(super) fn wake(
        &self,
        wake: &[ConnectionId],
        close: &[ConnectionId],
        counters: &Counters,
    ) -> Vec<ConnectionId> {
        let clients = self.clients.lock();
        for id in wake {
            match clients.get(id) {
                Some(client) => client.wake(),
                None => self.wake_watcher(*id),
            }
        }
        let mut watchers = Vec::new();
        for id in close {
            let Some(client) = clients.get(id) else {
                watchers.push(*id);
                continue;
            };
            counters.slow.fetch_add(1, Relaxed);
            let (address, connection) = (client.address, client.id);
            tracing::warn!(%address, connection, transport = ?client.transport, "a connection does not keep up, and is closed");
            client.end_now(close::SLOW, "it does not keep up");
        }
        watchers
    }
}
