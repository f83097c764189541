//! Subscriptions that end with the token which allowed them.

use super::{
    Live, Out,
    client::{Client, ClientState},
    encode,
    secrets::Refused,
};
use parking_lot::Mutex;
use protoplex_channels::ConnectionId;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// The end of a token for one subscription. Ordered by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Expiry {
    /// Second of 1970.
    at_s: u64,
    connection: ConnectionId,
    channel: Arc<str>,
}

/// All subscriptions that end with their token.
#[derive(Default)]
pub(super) struct TokenExpiries(Mutex<BTreeSet<Expiry>>);

impl TokenExpiries {
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Forgets the token of one subscription: the client left the channel, or brings another token.
    pub(super) fn forget(&self, client: &Client, state: &mut ClientState, channel: &Arc<str>) {
        if let Some(at_s) = state.tokens.remove(channel) {
            self.0.lock().remove(&Expiry {
                at_s,
                connection: client.id,
                channel: Arc::clone(channel),
            });
        }
    }

    /// Forgets the tokens of a client that is gone: they may live for days.
    pub(super) fn forget_all(&self, client: &Client) {
        let tokens = std::mem::take(&mut client.state.lock().tokens);
        let mut expiries = self.0.lock();
        for (channel, at_s) in tokens {
            expiries.remove(&Expiry {
                at_s,
                connection: client.id,
                channel,
            });
        }
    }

    fn take_due(&self, now_s: u64) -> Vec<Expiry> {
        let (mut expiries, mut due) = (self.0.lock(), Vec::new());
        while expiries.first().is_some_and(|first| first.at_s <= now_s) {
            due.extend(expiries.pop_first());
        }
        due
    }
}

impl Live {
    /// Ends a client's right to a channel at that second of 1970, unless it brings another token.
    pub(super) fn expire_at(&self, client: &Client, channel: &Arc<str>, at_s: u64) {
        let mut state = client.state.lock();
        // A command may come by a request of its own, and be late: nothing would take out what it leaves here.
        if !self.connections.has(client.id) {
            return;
        }
        self.connections
            .expiries
            .forget(client, &mut state, channel);
        state.tokens.insert(Arc::clone(channel), at_s);
        self.connections.expiries.0.lock().insert(Expiry {
            at_s,
            connection: client.id,
            channel: Arc::clone(channel),
        });
    }

    /// Ends subscriptions whose token has ended.
    pub(super) fn end_expired(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_s = now.map_or(0, |now| now.as_secs());
        for expiry in self.connections.expiries.take_due(now_s) {
            let (id, channel) = (expiry.connection, &expiry.channel);
            let Some(client) = self.connections.client(id) else {
                continue;
            };
            let is_last = client.state.lock().tokens.get(channel) == Some(&expiry.at_s);
            if is_last && self.unsubscribe(id, channel) {
                let mut state = client.state.lock();
                state.tokens.remove(channel);
                state.by_handler.remove(channel);
                drop(state);
                let (code, reason) = (Refused::Expired.code(), Refused::Expired.to_string());
                let ended = encode::ended(channel, code, &reason);
                self.queue(&client, Out::Object(ended));
            }
        }
    }
}
