//! State of a channel at its owner.

use crate::{
    Change, Child, Position, Presence, Published, Recent, Ring, Rules,
    context::MeshContext,
    frame::{Body, Handover},
    limits::{REPEAT_MS_MAX, REPEATS},
    local::Local,
    requests::Requests,
};
use bytes::Bytes;
use std::sync::Arc;

/// A channel at its owner: stream, members, idempotency keys, and the children that mirror it.
pub(crate) struct Owned {
    pub ring: Ring,
    pub requests: Requests,
    pub presence: Presence<Arc<str>>,
    recent: Recent,
    /// Children that mirror the channel, and when each last said so.
    mirrors: Vec<(Child, u64)>,
    /// The count that [`Handover::moves`] carries.
    moves: u64,
}

impl Owned {
    /// A new channel. `epoch` must never have been used for this channel.
    pub fn new(epoch: u64, rules: &Rules) -> Self {
        Self {
            ring: Ring::new(epoch, rules.history),
            requests: Requests::default(),
            presence: Presence::new(rules.presence),
            recent: Recent::new(rules.memory),
            mirrors: Vec::new(),
            moves: 0,
        }
    }

    pub fn of(now_ms: u64, rules: &Rules, handed: Handover) -> Self {
        Self {
            ring: Ring::at(now_ms, handed.position, rules.history, handed.kept),
            requests: Requests::of(handed.requests, now_ms),
            presence: Presence::of(rules.presence, handed.members, now_ms),
            recent: Recent::of(rules.memory, handed.keys, now_ms),
            mirrors: Vec::new(),
            moves: handed.moves,
        }
    }

    pub fn hand_over(&mut self, now_ms: u64) -> Handover {
        Handover {
            moves: self.moves + 1,
            position: self.ring.position(),
            kept: self.ring.hand_over(now_ms),
            keys: self.recent.hand_over(now_ms),
            requests: self.requests.hand_over(now_ms),
            members: self.presence.hand_over(now_ms),
        }
    }

    pub fn epoch(&self) -> u64 {
        self.ring.position().epoch
    }

    pub fn set_rules(&mut self, rules: &Rules) {
        self.ring.set_history(rules.history);
        self.recent.set_memory(rules.memory);
        self.presence.set_delays(rules.presence);
    }

    /// Publishes; when it returns, the message has its place for good.
    pub fn publish<T, R>(
        &mut self,
        local: &Local,
        context: &mut MeshContext<T, R>,
        now_ms: u64,
        data: Bytes,
        key: Option<&str>,
    ) -> Published {
        let before = key.and_then(|key| self.recent.answered(now_ms, key));
        if let Some(position) = before {
            let repeated = true;
            return Published { position, repeated };
        }
        let message = self.ring.push(now_ms, data);
        let position = message.position;
        if let Some(key) = key {
            self.recent.remember(now_ms, key, position);
        }
        local.deliver(context, &message);
        for (child, _) in &self.mirrors {
            let data = message.data.clone();
            context.send(*child, &local.name, Body::Message { position, data });
        }
        let repeated = false;
        Published { position, repeated }
    }

    /// Tells all who are on the channel of somebody who came or left.
    pub fn announce<T, R>(
        &self,
        local: &Local,
        context: &mut MeshContext<T, R>,
        changes: impl IntoIterator<Item = Change<Arc<str>>>,
    ) {
        for change in changes {
            local.announce(context, &change);
            for (child, _) in &self.mirrors {
                context.send(*child, &local.name, Body::Presence(change.clone()));
            }
        }
    }

    pub fn is_mirrored_by(&mut self, now_ms: u64, child: Child) -> bool {
        let known = self.mirrors.iter_mut().find(|(known, _)| *known == child);
        let known = known.map(|(_, heard_ms)| *heard_ms = now_ms);
        known.is_some()
    }

    pub fn mirror(&mut self, now_ms: u64, child: Child) {
        if !self.is_mirrored_by(now_ms, child) {
            self.mirrors.push((child, now_ms));
        }
    }

    pub fn not_mirrored_by(&mut self, child: Child) {
        self.mirrors.retain(|(known, _)| *known != child);
    }

    pub fn mirrors(&self) -> impl Iterator<Item = Child> {
        self.mirrors.iter().map(|(child, _)| *child)
    }

    /// Where a position stands, and what came since.
    pub fn since(
        &mut self,
        now_ms: u64,
        from: Option<Position>,
    ) -> Option<Vec<crate::frame::KeptMessage>> {
        self.ring.kept_since(now_ms, from?)
    }

    pub fn tick<T, R>(&mut self, local: &Local, context: &mut MeshContext<T, R>, now_ms: u64) {
        self.ring.trim(now_ms);
        self.recent.trim(now_ms);
        self.requests.trim(now_ms);
        for member in local.here.keys() {
            self.presence.report(now_ms, context.id, member);
        }
        let silent_ms = REPEAT_MS_MAX * REPEATS;
        self.mirrors
            .retain(|(_, heard_ms)| now_ms.saturating_sub(*heard_ms) <= silent_ms);
        let left = self.presence.tick(now_ms);
        self.announce(local, context, left);
    }

    /// Whether nobody would miss it. One without history may still have given out positions: whoever comes back with one
    /// of them is told that it is of another epoch.
    pub fn is_idle(&self) -> bool {
        self.ring.is_empty()
            && self.recent.is_empty()
            && self.requests.is_empty()
            && self.presence.is_empty()
            && self.mirrors.is_empty()
    }
}
