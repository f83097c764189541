//! Members of a channel. A member who comes back at once never left, and one with three windows open is there once.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

/// Delays by which presence is debounced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceDelays {
    /// Milliseconds that somebody may be gone before the others are told.
    pub leave_after_ms: u64,
    /// Milliseconds after which one whose node says nothing any more counts as gone.
    pub expires_after_ms: u64,
}

/// A change of presence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change<M> {
    /// Somebody came.
    Joined(M),
    /// Somebody has been gone for long enough.
    Left(M),
}

#[derive(Debug)]
struct Member {
    /// When each node last reported the member.
    at: HashMap<u64, u64>,
    gone_since: Option<u64>,
}

/// Where a member is, as it is handed over: by node, how long ago that said so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Whereabouts<M> {
    member: M,
    at: Vec<(u64, u64)>,
    gone_ms: Option<u64>,
}

/// Members `M` of one channel, as their nodes (numbers of the caller's choice) report them. Time comes from outside, in
/// milliseconds that never go back.
#[derive(Debug)]
pub struct Presence<M> {
    delays: PresenceDelays,
    members: HashMap<M, Member>,
}

impl<M: Clone + Eq + Hash + Ord> Presence<M> {
    /// A channel without members.
    pub fn new(delays: PresenceDelays) -> Self {
        Self {
            delays,
            members: HashMap::new(),
        }
    }

    /// Whether there is no member, and no leaving that is still to be announced.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members in order; those included whose leaving has not been told.
    pub fn members(&self) -> Vec<M> {
        let mut members: Vec<M> = self.members.keys().cloned().collect();
        members.sort_unstable();
        members
    }

    /// A node has a member; it repeats that for as long as it is so.
    pub fn report(&mut self, now_ms: u64, node: u64, member: &M) -> Option<Change<M>> {
        let mut joined = None;
        let known = self.members.entry(member.clone()).or_insert_with(|| {
            joined = Some(Change::Joined(member.clone()));
            Member {
                at: HashMap::new(),
                gone_since: None,
            }
        });
        known.at.insert(node, now_ms);
        known.gone_since = None;
        joined
    }

    /// A node has these members, and no others.
    pub(crate) fn report_all(&mut self, now_ms: u64, node: u64, all: &[M]) -> Vec<Change<M>> {
        let all: BTreeSet<&M> = all.iter().collect();
        for (member, known) in &mut self.members {
            if known.at.contains_key(&node) && !all.contains(member) {
                known.leaves(now_ms, node);
            }
        }
        let joined = all.into_iter();
        joined
            .filter_map(|member| self.report(now_ms, node, member))
            .collect()
    }

    /// A member of whom is heard that it was there; it leaves unless a node says that it has it.
    pub(crate) fn expect(&mut self, now_ms: u64, member: &M) -> Option<Change<M>> {
        if self.members.contains_key(member) {
            return None;
        }
        let known = Member {
            at: HashMap::new(),
            gone_since: Some(now_ms),
        };
        self.members.insert(member.clone(), known);
        Some(Change::Joined(member.clone()))
    }

    pub(crate) fn of(delays: PresenceDelays, handed: Vec<Whereabouts<M>>, now_ms: u64) -> Self {
        let ago = |age_ms: u64| now_ms.saturating_sub(age_ms);
        let members = handed.into_iter().map(|handed| {
            let at = handed.at.into_iter();
            let member = Member {
                at: at.map(|(node, age_ms)| (node, ago(age_ms))).collect(),
                gone_since: handed.gone_ms.map(ago),
            };
            (handed.member, member)
        });
        Self {
            delays,
            members: members.collect(),
        }
    }

    pub(crate) fn hand_over(&self, now_ms: u64) -> Vec<Whereabouts<M>> {
        let age = |at_ms: u64| now_ms.saturating_sub(at_ms);
        let members = self.members.iter().map(|(member, known)| Whereabouts {
            member: member.clone(),
            at: known
                .at
                .iter()
                .map(|(node, at)| (*node, age(*at)))
                .collect(),
            gone_ms: known.gone_since.map(age),
        });
        members.collect()
    }

    /// Other delays from now on.
    pub(crate) fn set_delays(&mut self, delays: PresenceDelays) {
        self.delays = delays;
    }

    /// A node does not have a member any more.
    pub fn gone(&mut self, now_ms: u64, node: u64, member: &M) {
        if let Some(known) = self.members.get_mut(member) {
            known.leaves(now_ms, node);
        }
    }

    /// A node is gone for good, and with it all who were there.
    pub fn node_gone(&mut self, now_ms: u64, node: u64) {
        for member in self.members.values_mut() {
            member.leaves(now_ms, node);
        }
    }

    /// Members that have been gone for long enough, in order. To be called now and then.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Change<M>> {
        let PresenceDelays {
            leave_after_ms,
            expires_after_ms,
        } = self.delays;
        let mut left = Vec::new();
        self.members.retain(|name, member| {
            member
                .at
                .retain(|_, heard_ms| now_ms.saturating_sub(*heard_ms) <= expires_after_ms);
            if member.at.is_empty() {
                member.gone_since.get_or_insert(now_ms);
            }
            let stays = member
                .gone_since
                .is_none_or(|since| now_ms.saturating_sub(since) < leave_after_ms);
            if !stays {
                left.push(name.clone());
            }
            stays
        });
        left.sort_unstable();
        left.into_iter().map(Change::Left).collect()
    }
}

impl Member {
    fn leaves(&mut self, now_ms: u64, node: u64) {
        self.at.remove(&node);
        if self.at.is_empty() {
            self.gone_since.get_or_insert(now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAYS: PresenceDelays = PresenceDelays {
        leave_after_ms: 100,
        expires_after_ms: 1_000,
    };

    fn left(name: &'static str) -> Vec<Change<&'static str>> {
        vec![Change::Left(name)]
    }

    #[test]
    fn one_who_comes_back_in_time_never_left() {
        let mut presence = Presence::new(DELAYS);
        assert_eq!(presence.report(0, 1, &"ann"), Some(Change::Joined("ann")));
        assert_eq!(presence.report(0, 1, &"ann"), None);
        presence.gone(10, 1, &"ann");
        assert_eq!(presence.tick(109), []);
        // On another node, too.
        assert_eq!(presence.report(109, 2, &"ann"), None);
        assert_eq!(presence.tick(500), []);
        presence.gone(500, 2, &"ann");
        assert_eq!(presence.members(), ["ann"]);
        assert_eq!(presence.tick(600), left("ann"));
        assert!(presence.is_empty());
        assert_eq!(presence.report(601, 1, &"ann"), Some(Change::Joined("ann")));
    }

    #[test]
    fn members_of_a_dead_or_silent_node_leave_and_others_stay() {
        let mut presence = Presence::new(DELAYS);
        presence.report(0, 1, &"ann");
        presence.report(0, 2, &"ann");
        presence.report(0, 2, &"bob");
        presence.node_gone(50, 2);
        assert_eq!(presence.tick(149), []);
        assert_eq!(presence.tick(150), left("bob"));
        assert_eq!(presence.tick(1_000), []);
        // Silent since 0: gone from now on.
        assert_eq!(presence.tick(1_001), []);
        assert_eq!(presence.tick(1_101), left("ann"));
    }
}
