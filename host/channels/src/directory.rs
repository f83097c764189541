//! The owner of each channel, as far as this child has heard.

use crate::limits::{DIRECTORIES_MAX, EPOCHS_MAX, REMEMBERED_MS};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// One process of a child, by its number in the caller's table; never used for another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Child(pub u32);

type Owner = Box<dyn Fn(&str) -> Option<Child> + Send>;

/// A channel that was given away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    pub to: Child,
    /// Version of the directory by which the channel is theirs.
    pub version: u64,
    pub at_ms: u64,
    /// The child that had got the channel from here before; they have to get it from there.
    pub from: Option<Child>,
}

/// The owners of channels, now and a short while ago.
pub(crate) struct Directory {
    pub me: Child,
    pub version: u64,
    owner: Option<Owner>,
    /// Former directories: the time until which each was the newest, its version, and its owners.
    past: VecDeque<(u64, u64, Owner)>,
    given: HashMap<Arc<str>, Given>,
    /// States of channels that were here: their epochs, in each the last move, and when that was.
    had: HashMap<Arc<str>, Vec<(u64, u64, u64)>>,
    dead: HashMap<Child, u64>,
}

impl Directory {
    pub fn new(me: Child) -> Self {
        Self {
            me,
            version: 0,
            owner: None,
            past: VecDeque::new(),
            given: HashMap::new(),
            had: HashMap::new(),
            dead: HashMap::new(),
        }
    }

    /// A new one; `false` where it is older than the one before. Of the same version it may be, as when a child's place
    /// has been taken by another process.
    pub fn place(&mut self, now_ms: u64, version: u64, owner: Owner) -> bool {
        if version < self.version {
            return false;
        }
        if let Some(old) = self.owner.replace(owner) {
            self.past.push_back((now_ms, self.version, old));
        }
        self.version = version;
        self.trim(now_ms);
        true
    }

    /// The owner of a channel: the child that pulled it by a directory that has not come here yet, or else the one of
    /// the newest that has.
    pub fn owner(&self, channel: &str) -> Option<Child> {
        let given = self.given.get(channel);
        let ahead = given.filter(|given| given.version > self.version);
        let owner = || self.owner.as_ref()?(channel);
        ahead.map(|given| given.to).or_else(owner)
    }

    /// Children that may still have a channel that is to be here.
    pub fn before(&self, channel: &str) -> Vec<Child> {
        let owners = self.past.iter();
        let owners = owners.filter_map(|(.., owner)| owner(channel));
        let given = self.given.get(channel).map(|given| given.to);
        let alive = |child: &Child| *child != self.me && !self.dead.contains_key(child);
        let mut before: Vec<_> = owners.chain(given).filter(alive).collect();
        before.sort_unstable();
        before.dedup();
        before
    }

    /// Directories of late.
    pub fn versions(&self) -> Vec<u64> {
        let past = self.past.iter().map(|(_, version, _)| *version);
        past.chain([self.version]).collect()
    }

    /// The child that may have a channel by a directory of late that another child, which asks for it, does not know.
    pub fn between(&self, channel: &str, child: Child, known: &[u64]) -> Option<Child> {
        let past = self
            .past
            .iter()
            .map(|(_, version, owner)| (*version, owner));
        let newest = self.owner.as_ref().map(|owner| (self.version, owner));
        let all = past.chain(newest);
        let mut unknown = all.filter(|(version, _)| !known.contains(version));
        unknown.find_map(|(_, owner)| {
            let owner = owner(channel).filter(|owner| *owner != child && *owner != self.me);
            owner.filter(|owner| !self.dead.contains_key(owner))
        })
    }

    pub fn give(&mut self, channel: &Arc<str>, given: Given) {
        self.given.insert(Arc::clone(channel), given);
    }

    /// A state of a channel came, or went.
    pub fn has(&mut self, now_ms: u64, channel: &Arc<str>, (epoch, moves): (u64, u64)) {
        let had = self.had.entry(Arc::clone(channel)).or_default();
        had.retain(|(of, ..)| *of != epoch);
        if had.len() == EPOCHS_MAX {
            had.remove(0);
        }
        had.push((epoch, moves, now_ms));
    }

    /// Whether it came, or went, of late.
    pub fn has_moved(&self, channel: &str) -> bool {
        self.had.contains_key(channel)
    }

    /// Whether that state of a channel was here, or an earlier one of its epoch.
    pub fn has_had(&self, channel: &str, (epoch, moves): (u64, u64)) -> bool {
        let had = self.had.get(channel).into_iter().flatten();
        let mut same = had.filter(|(of, ..)| *of == epoch);
        same.any(|(_, last, _)| *last >= moves)
    }

    /// Which other child got it from here, and may have it.
    pub fn given_to_other(&self, channel: &str, child: Child) -> Option<Child> {
        let given = self.given.get(channel)?;
        let to = Some(given.to).filter(|to| *to != child).or(given.from);
        to.filter(|to| *to != child && !self.dead.contains_key(to))
    }

    /// A child has it, and wants to give it to whoever it is meant for.
    pub fn seen(&mut self, now_ms: u64, channel: &Arc<str>, at: Child) {
        let given = self.given.entry(Arc::clone(channel)).or_insert(Given {
            to: at,
            version: 0,
            at_ms: now_ms,
            from: None,
        });
        given.from = Some(at);
        given.at_ms = now_ms;
    }

    /// Forgets that the channel was given away: it is here after all.
    pub fn not_given(&mut self, channel: &str) {
        self.given.remove(channel);
    }

    pub fn gone(&mut self, now_ms: u64, child: Child) {
        self.dead.insert(child, now_ms);
    }

    pub fn trim(&mut self, now_ms: u64) {
        let young = |at_ms: u64| now_ms.saturating_sub(at_ms) < REMEMBERED_MS;
        while let Some((until_ms, ..)) = self.past.front()
            && (!young(*until_ms) || self.past.len() > DIRECTORIES_MAX)
        {
            self.past.pop_front();
        }
        let version = self.version;
        self.given
            .retain(|_, given| given.version > version || young(given.at_ms));
        self.had.retain(|_, had| {
            had.retain(|(.., at_ms)| young(*at_ms));
            !had.is_empty()
        });
        self.dead.retain(|_, at_ms| young(*at_ms));
    }
}
