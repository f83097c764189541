//! The subscribers of a channel that are here.

use crate::{
    Change, Message, Notice, Position, Rules, connections::ConnectionId, context::MeshContext,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// The subscribers of one channel in this child, and their members.
pub(crate) struct Local {
    pub name: Arc<str>,
    pub rules: Rules,
    /// Connection, and number of its subscription there, which keeps the index in this list.
    pub subscribers: Vec<(ConnectionId, u32)>,
    /// Connections of each member.
    pub here: HashMap<Arc<str>, u32>,
}

impl Local {
    pub fn new(name: Arc<str>, rules: Rules) -> Self {
        Self {
            name,
            rules,
            subscribers: Vec::new(),
            here: HashMap::new(),
        }
    }

    pub fn deliver<T, R>(&self, context: &mut MeshContext<T, R>, message: &Arc<Message>) {
        for subscriber in &self.subscribers {
            let overflow = self.rules.overflow;
            context.connections.message(*subscriber, message, overflow);
        }
    }

    pub fn announce<T, R>(&self, context: &mut MeshContext<T, R>, change: &Change<Arc<str>>) {
        for (id, subscription) in &self.subscribers {
            let notice = Notice::Presence(*subscription, change.clone());
            context.connections.notice(*id, notice);
        }
    }

    /// Tells subscribers that the stream goes on after a position, and that they may have missed something.
    pub fn reset<T, R>(&self, context: &mut MeshContext<T, R>, position: Position) {
        for (id, subscription) in &self.subscribers {
            let notice = Notice::Reset(*subscription, position);
            context.connections.notice(*id, notice);
        }
    }

    /// A connection's subscription begins; its number.
    pub fn insert<T, R>(
        &mut self,
        context: &mut MeshContext<T, R>,
        id: ConnectionId,
    ) -> Option<u32> {
        let subscription = context.connections.subscription(id, &self.name)?;
        subscription.index = Some(self.subscribers.len());
        self.subscribers.push((id, subscription.number));
        Some(subscription.number)
    }

    /// A subscription ends; the last takes its place.
    pub fn remove<T, R>(&mut self, context: &mut MeshContext<T, R>, index: usize) {
        self.subscribers.swap_remove(index);
        if let Some((id, _)) = self.subscribers.get(index) {
            let moved = context.connections.subscription(*id, &self.name);
            if let Some(moved) = moved {
                moved.index = Some(index);
            }
        }
    }

    /// Counts a connection of a member. Returns whether it is the first.
    pub fn count(&mut self, member: &Arc<str>) -> bool {
        let count = self.here.entry(Arc::clone(member)).or_default();
        *count += 1;
        *count == 1
    }

    /// Takes back a connection of a member. Returns whether it was the last.
    pub fn uncount(&mut self, member: &Arc<str>) -> bool {
        let Some(count) = self.here.get_mut(member) else {
            return false;
        };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.here.remove(member);
        }
        last
    }

    pub fn members(&self) -> Vec<Arc<str>> {
        self.here.keys().cloned().collect()
    }

    /// Tells who came and left between two lists.
    pub fn announce_difference<T, R>(
        &self,
        context: &mut MeshContext<T, R>,
        before: &BTreeSet<Arc<str>>,
        now: &BTreeSet<Arc<str>>,
    ) {
        for left in before.difference(now) {
            self.announce(context, &Change::Left(Arc::clone(left)));
        }
        for joined in now.difference(before) {
            self.announce(context, &Change::Joined(Arc::clone(joined)));
        }
    }
}
