//! Idempotency keys of late: a publisher that repeats itself gets the first answer again.

use crate::Position;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};

/// Limits on the keys that a channel remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Keys of one channel.
    pub keys_max: usize,
    /// Milliseconds.
    pub age_ms_max: u64,
}

/// A key and its answer, as they are handed over to a new owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KnownKey {
    key: Box<str>,
    answer: Position,
    age_ms: u64,
}

/// The idempotency keys of a channel, and the answer to each.
#[derive(Debug)]
pub struct Recent {
    memory: Memory,
    known: HashMap<Box<str>, Position>,
    order: VecDeque<(u64, Box<str>)>,
}

impl Recent {
    /// No keys.
    pub fn new(memory: Memory) -> Self {
        Self {
            memory,
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(crate) fn of(memory: Memory, handed: Vec<KnownKey>, now_ms: u64) -> Self {
        let mut recent = Self::new(memory);
        for handed in handed {
            let at_ms = now_ms.saturating_sub(handed.age_ms);
            recent.known.insert(handed.key.clone(), handed.answer);
            recent.order.push_back((at_ms, handed.key));
        }
        recent
    }

    pub(crate) fn hand_over(&mut self, now_ms: u64) -> Vec<KnownKey> {
        self.trim(now_ms);
        let known = self.order.iter().filter_map(|(at_ms, key)| {
            Some(KnownKey {
                key: key.clone(),
                answer: *self.known.get(key)?,
                age_ms: now_ms.saturating_sub(*at_ms),
            })
        });
        known.collect()
    }

    /// Sets other limits.
    pub(crate) fn set_memory(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// The answer that this key had.
    pub fn answered(&mut self, now_ms: u64, key: &str) -> Option<Position> {
        self.trim(now_ms);
        self.known.get(key).copied()
    }

    /// Remembers an answer to a key that has none.
    pub fn remember(&mut self, now_ms: u64, key: &str, answer: Position) {
        if self.known.insert(key.into(), answer).is_none() {
            self.order.push_back((now_ms, key.into()));
        }
        self.trim(now_ms);
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Forgets what is too old.
    pub fn trim(&mut self, now_ms: u64) {
        while let Some((at_ms, key)) = self.order.front() {
            let too_old = now_ms.saturating_sub(*at_ms) > self.memory.age_ms_max;
            if !too_old && self.order.len() <= self.memory.keys_max {
                return;
            }
            self.known.remove(key);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_for_as_long_and_among_as_many_as_it_should_be() {
        let at = |offset| Position { epoch: 1, offset };
        let mut recent = Recent::new(Memory {
            keys_max: 2,
            age_ms_max: 100,
        });
        recent.remember(0, "a", at(1));
        recent.remember(50, "b", at(2));
        assert_eq!(recent.answered(100, "a"), Some(at(1)));
        assert_eq!(recent.answered(101, "a"), None);
        recent.remember(102, "c", at(3));
        recent.remember(103, "d", at(4));
        assert_eq!(recent.answered(103, "b"), None);
        assert_eq!(recent.answered(103, "c"), Some(at(3)));
        assert_eq!(recent.answered(300, "d"), None);
        assert!(recent.is_empty());
    }
}
