//! The subscribers of a channel that are here.

use super::Around;
use crate::{Change, Message, Notice, Position, Rules, connections::ConnectionId};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// See the module.
pub(crate) struct Local {
    pub name: Arc<str>,
    pub rules: Rules,
    /// With the subscription's number at that connection, which knows its index here.
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

    pub fn deliver<T, R>(&self, around: &mut Around<T, R>, message: &Arc<Message>) {
        for subscriber in &self.subscribers {
            let overflow = self.rules.overflow;
            around.connections.message(*subscriber, message, overflow);
        }
    }

    pub fn tell<T, R>(&self, around: &mut Around<T, R>, change: &Change<Arc<str>>) {
        for (id, subscription) in &self.subscribers {
            let notice = Notice::Presence(*subscription, change.clone());
            around.connections.notice(*id, notice);
        }
    }

    /// The stream goes on elsewhere.
    pub fn reset<T, R>(&self, around: &mut Around<T, R>, position: Position) {
        for (id, subscription) in &self.subscribers {
            let notice = Notice::Reset(*subscription, position);
            around.connections.notice(*id, notice);
        }
    }

    /// A connection's subscription begins; its number.
    pub fn insert<T, R>(&mut self, around: &mut Around<T, R>, id: ConnectionId) -> Option<u32> {
        let subscription = around.connections.subscription(id, &self.name)?;
        subscription.index = Some(self.subscribers.len());
        self.subscribers.push((id, subscription.number));
        Some(subscription.number)
    }

    /// A subscription ends; the last takes its place.
    pub fn remove<T, R>(&mut self, around: &mut Around<T, R>, index: usize) {
        self.subscribers.swap_remove(index);
        if let Some((id, _)) = self.subscribers.get(index) {
            let moved = around.connections.subscription(*id, &self.name);
            if let Some(moved) = moved {
                moved.index = Some(index);
            }
        }
    }

    /// Whether it is the first connection of that member.
    pub fn count(&mut self, member: &Arc<str>) -> bool {
        let count = self.here.entry(Arc::clone(member)).or_default();
        *count += 1;
        *count == 1
    }

    /// Whether it was the last.
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
    pub fn tell_difference<T, R>(
        &self,
        around: &mut Around<T, R>,
        before: &BTreeSet<Arc<str>>,
        now: &BTreeSet<Arc<str>>,
    ) {
        for left in before.difference(now) {
            self.tell(around, &Change::Left(Arc::clone(left)));
        }
        for joined in now.difference(before) {
            self.tell(around, &Change::Joined(Arc::clone(joined)));
        }
    }
}
