//! Frames of children that have heard of a newer directory than this one. They wait until it has come here as well.

use crate::{
    Child, Frame,
    limits::{HELD_BYTES_MAX, HELD_MAX, HELD_MS},
};
use std::collections::VecDeque;

/// A frame that waits, with its sender and the time of its arrival.
pub(super) struct HeldFrame {
    pub since_ms: u64,
    pub child: Child,
    pub frame: Frame,
}

/// Frames that wait for a newer directory, in the order in which they came.
#[derive(Default)]
pub(super) struct HeldFrames {
    frames: VecDeque<HeldFrame>,
    bytes: usize,
}

impl HeldFrames {
    /// Whether a frame of that child and channel waits already: later ones wait as well, to keep their order.
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

    pub fn push(&mut self, waits: HeldFrame) {
        self.bytes += waits.frame.bytes();
        self.frames.push_back(waits);
    }

    /// Takes all frames, to be processed again.
    pub fn take(&mut self) -> VecDeque<HeldFrame> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }

    /// Takes a frame that has waited for too long.
    pub fn late(&mut self, now_ms: u64) -> Option<HeldFrame> {
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
