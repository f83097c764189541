//! What the supervisor knows of all children together.

use super::{
    Supervisor,
    child_record::{ChildRecord, ChildStatus},
};
use protoplex_control::messages::Beat;

impl Supervisor {
    pub(crate) fn children(&self) -> usize {
        self.children.len()
    }

    /// Children that answer requests by a build.
    pub(crate) fn serving(&self) -> usize {
        self.children.iter().filter(|child| child.serves()).count()
    }

    /// Whether every child answers requests by a build.
    pub(crate) fn all_serve(&self) -> bool {
        self.children.iter().all(ChildRecord::serves)
    }

    /// Whether some child answers requests by a build.
    pub(crate) fn any_serves(&self) -> bool {
        self.children.iter().any(ChildRecord::serves)
    }

    /// Whether no child has a process.
    pub(crate) fn all_gone(&self) -> bool {
        self.children.iter().all(|child| child.process().is_none())
    }

    /// Whether some child has come up since this process started.
    pub(crate) fn has_come_up(&self) -> bool {
        self.has_come_up
    }

    /// Children that do what they are ordered.
    pub(crate) fn taking_orders(&self) -> Vec<usize> {
        let children = self.children.iter().enumerate();
        children
            .filter(|(_, child)| child.takes_orders())
            .map(|(index, _)| index)
            .collect()
    }

    /// Whether each child that takes orders relays by this version of the directory.
    pub(crate) fn all_relay_by(&self, version: u64) -> bool {
        let mut children = self.children.iter().filter(|child| child.takes_orders());
        children.all(|child| child.directory() == version)
    }

    /// Why no child comes up, if none does.
    pub(crate) fn futility(&self) -> Option<String> {
        let last = self.children.iter().max_by_key(|child| child.restarts());
        let last = last.and_then(ChildRecord::last_end);
        self.children.iter().all(ChildRecord::is_futile).then(|| {
            format!(
                "no child of this node comes up; the last one ended with {}",
                last.unwrap_or("no word")
            )
        })
    }

    /// Why no child takes an order now or soon, where that is so.
    pub(crate) fn order_futility(&self) -> Option<String> {
        self.futility().filter(|_| self.taking_orders().is_empty())
    }

    /// How the last process ended of a child that does not serve.
    pub(crate) fn last_end(&self) -> Option<&str> {
        let down = self.children.iter().filter(|child| !child.serves());
        let last = down.max_by_key(|child| child.restarts());
        last.and_then(ChildRecord::last_end)
    }

    /// Times that a child was started again.
    pub(crate) fn restarts(&self) -> u64 {
        self.children.iter().map(ChildRecord::restarts).sum()
    }

    /// Counters of all processes, with those that have ended.
    pub(crate) fn totals(&self) -> Beat {
        let beats = self.children.iter().flat_map(ChildRecord::counters);
        beats.fold(Beat::default(), |sum, beat| Beat {
            requests: sum.requests + beat.requests,
            errors: sum.errors + beat.errors,
            traps: sum.traps + beat.traps,
            in_flight: sum.in_flight + beat.in_flight,
            connections: sum.connections + beat.connections,
        })
    }

    /// Each child as the node's status shows it.
    pub(crate) fn status(&self) -> Vec<ChildStatus> {
        self.children.iter().map(ChildRecord::status).collect()
    }
}
