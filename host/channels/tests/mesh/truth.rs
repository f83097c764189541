//! Everything that was ever published, as far as anybody was told.

use protoplex_channels::{Position, Published};
use std::{collections::HashMap, sync::Arc};

/// Milliseconds for which keys are remembered.
pub const KEYS_MS: u64 = 5_000;

/// A publication; its content is its number.
pub struct Publication {
    pub channel: Arc<str>,
    pub content: u64,
    pub key: Option<String>,
    pub at_ms: u64,
}

/// All that was published and acknowledged, to compare with.
#[derive(Default)]
pub struct Truth {
    log: HashMap<(Arc<str>, Position), u64>,
    placed: HashMap<(Arc<str>, u64), Vec<Position>>,
    acknowledged: HashMap<Arc<str>, Vec<Position>>,
    /// Publications with a key that were answered: when they were sent, and where they are.
    keys: HashMap<(Arc<str>, String), (u64, Position)>,
    key_of: HashMap<u64, String>,
}

impl Truth {
    /// Somebody saw that message there.
    pub fn stands(&mut self, channel: &Arc<str>, at: Position, content: u64) {
        let before = self.log.insert((Arc::clone(channel), at), content);
        assert!(
            before.is_none_or(|before| before == content),
            "two messages at {channel} {at}"
        );
        let placed = self.placed.entry((Arc::clone(channel), content));
        let placed = placed.or_default();
        if !placed.contains(&at) {
            assert!(
                placed.iter().all(|other| other.epoch != at.epoch),
                "{content} on {channel} at {placed:?} and {at}"
            );
            placed.push(at);
        }
    }

    pub fn sent(&mut self, publication: &Publication) {
        if let Some(key) = &publication.key {
            self.key_of.insert(publication.content, key.clone());
        }
    }

    pub fn acknowledged(&mut self, now_ms: u64, publication: Publication, answer: Published) {
        let Publication {
            channel,
            content,
            key,
            at_ms,
        } = publication;
        let at = answer.position;
        if answer.repeated {
            let key = key.clone().expect("only with a key");
            if let Some(content) = self.log.get(&(Arc::clone(&channel), at)) {
                assert_eq!(self.key_of.get(content), Some(&key), "{channel} {at}");
            }
        } else {
            self.stands(&channel, at, content);
        }
        self.acknowledged
            .entry(Arc::clone(&channel))
            .or_default()
            .push(at);
        let Some(key) = key else { return };
        let known = (channel, key);
        if let Some((first_ms, first)) = self.keys.get(&known)
            && (first.epoch, first.offset < at.offset) == (at.epoch, true)
            && now_ms - first_ms < KEYS_MS
        {
            panic!("{known:?} at {first} and {at}");
        }
        if !answer.repeated {
            self.keys.insert(known, (at_ms, at));
        }
    }

    /// All acknowledged positions of a channel.
    pub fn of(&self, channel: &str) -> &[Position] {
        self.acknowledged.get(channel).map_or(&[], Vec::as_slice)
    }
}
