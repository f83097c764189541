//! Frames of children that have heard of a newer directory than this one. They wait until it has come here as well.

use crate::{
    Child, Frame,
    limits::{HELD_BYTES_MAX, HELD_MAX, HELD_MS},
};
use std::collections::VecDeque;

/// A frame, whose it is, and since when it waits.
pub(super) struct Waits {
    pub since_ms: u64,
    pub child: Child,
    pub frame: Frame,
}

/// See the module.
#[derive(Default)]
pub(super) struct Held {
    frames: VecDeque<Waits>,
    bytes: usize,
}

impl Held {
    /// Whether something of that child and channel waits already: what comes later waits as well, to keep its order.
    pub fn has(&self, child: Child, channel: &str) -> bool {
        let mut frames = self.frames.iter();
        frames.any(|waits| waits.child == child && *waits.frame.channel == *channel)
    }

    pub fn has_room(&self, frame: &Frame) -> bool {
        self.frames.len() < HELD_MAX && self.bytes + frame.bytes() <= HELD_BYTES_MAX
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, waits: Waits) {
        self.bytes += waits.frame.bytes();
        self.frames.push_back(waits);
    }

    /// All, to be looked at again.
    pub fn take(&mut self) -> VecDeque<Waits> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }

    /// One that has waited for long enough.
    pub fn late(&mut self, now_ms: u64) -> Option<Waits> {
        let first = self.frames.front()?;
        if now_ms.saturating_sub(first.since_ms) < HELD_MS {
            return None;
        }
        let late = self.frames.pop_front()?;
        self.bytes -= late.frame.bytes();
        Some(late)
    }

    /// The link that they came by is no more; what they asked is asked again.
    pub fn forget(&mut self, child: Child) {
        self.frames.retain(|waits| waits.child != child);
        self.bytes = self.frames.iter().map(|waits| waits.frame.bytes()).sum();
    }
}
