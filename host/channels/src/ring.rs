//! The messages of a channel that may still be asked for again, bounded by number, size and age.

use crate::{Message, Position, frame::KeptMessage};
use bytes::Bytes;
use std::{collections::VecDeque, sync::Arc};

/// Limits on the messages that are kept. What passes any of them goes, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Messages.
    pub messages_max: usize,
    /// Bytes of their contents, all together.
    pub bytes_max: usize,
    /// Milliseconds since they were published.
    pub age_ms_max: u64,
}

/// The stream of a channel up to its last message, and the messages that are kept. Time comes from outside, in milliseconds that never go back.
#[derive(Debug)]
pub struct Ring {
    history: History,
    last: Position,
    kept: VecDeque<(u64, Arc<Message>)>,
    bytes: usize,
}

impl Ring {
    /// A stream without messages. `epoch` must never have been used for this channel.
    pub fn new(epoch: u64, history: History) -> Self {
        Self {
            history,
            last: Position { epoch, offset: 0 },
            kept: VecDeque::new(),
            bytes: 0,
        }
    }

    /// A stream whose last message is at `last`, with the messages that are kept up to there.
    pub(crate) fn at(
        now_ms: u64,
        last: Position,
        history: History,
        kept: Vec<KeptMessage>,
    ) -> Self {
        let mut ring = Self::new(last.epoch, history);
        ring.last.offset = last.offset.saturating_sub(kept.len() as u64);
        for KeptMessage { age_ms, data } in kept {
            ring.push_aged(now_ms, age_ms, data);
        }
        ring.last = last;
        ring
    }

    /// Sets other limits.
    pub(crate) fn set_history(&mut self, history: History) {
        self.history = history;
    }

    /// The position after the last message.
    pub fn position(&self) -> Position {
        self.last
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Takes the next message in.
    pub fn push(&mut self, now_ms: u64, data: Bytes) -> Arc<Message> {
        self.push_aged(now_ms, 0, data)
    }

    /// Takes the next message in, which was published that long ago.
    pub(crate) fn push_aged(&mut self, now_ms: u64, age_ms: u64, data: Bytes) -> Arc<Message> {
        self.last.offset += 1;
        let message = Arc::new(Message::new(self.last, data));
        self.bytes += message.data.len();
        let at_ms = now_ms.saturating_sub(age_ms);
        self.kept.push_back((at_ms, Arc::clone(&message)));
        self.trim(now_ms);
        message
    }

    /// Messages of [`Ring::since`] with their ages, to be told to another child.
    pub(crate) fn kept_since(&mut self, now_ms: u64, from: Position) -> Option<Vec<KeptMessage>> {
        let missed = self.since(now_ms, from)?.len();
        let skipped = self.kept.len() - missed;
        let kept = self
            .kept
            .range(skipped..)
            .map(|(at_ms, message)| KeptMessage {
                age_ms: now_ms.saturating_sub(*at_ms),
                data: message.data.clone(),
            });
        Some(kept.collect())
    }

    /// All that is kept.
    pub(crate) fn hand_over(&mut self, now_ms: u64) -> Vec<KeptMessage> {
        self.trim(now_ms);
        let offset = self.last.offset - self.kept.len() as u64;
        let from = Position {
            offset,
            ..self.last
        };
        self.kept_since(now_ms, from).unwrap_or_default()
    }

    /// Messages after `from`, oldest first; `None` where that cannot be said with certainty: another epoch, a position
    /// that was never given out, or one from which something is not kept any more.
    pub fn since(
        &mut self,
        now_ms: u64,
        from: Position,
    ) -> Option<impl ExactSizeIterator<Item = &Arc<Message>>> {
        self.trim(now_ms);
        if from.epoch != self.last.epoch || from.offset > self.last.offset {
            return None;
        }
        let missed = usize::try_from(self.last.offset - from.offset).ok()?;
        let skipped = self.kept.len().checked_sub(missed)?;
        Some(self.kept.range(skipped..).map(|(_, message)| message))
    }

    /// Lets go of what is too old.
    pub fn trim(&mut self, now_ms: u64) {
        let History {
            messages_max,
            bytes_max,
            age_ms_max,
        } = self.history;
        while let Some((at_ms, message)) = self.kept.front() {
            let too_old = now_ms.saturating_sub(*at_ms) > age_ms_max;
            if !too_old && self.kept.len() <= messages_max && self.bytes <= bytes_max {
                return;
            }
            self.bytes -= message.data.len();
            self.kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: History = History {
        messages_max: 4,
        bytes_max: 100,
        age_ms_max: 1_000,
    };

    fn filled(sizes: &[usize]) -> Ring {
        let mut ring = Ring::new(7, HISTORY);
        for size in sizes {
            ring.push(0, vec![0; *size].into());
        }
        ring
    }

    #[track_caller]
    fn check(ring: &mut Ring, now_ms: u64, offset: u64, expected: Option<&[u64]>) {
        let from = Position { epoch: 7, offset };
        let got = ring.since(now_ms, from);
        let got = got.map(|missed| missed.map(|m| m.position.offset).collect::<Vec<_>>());
        assert_eq!(got.as_deref(), expected);
    }

    #[test]
    fn what_was_missed_is_told_where_it_is_known_and_only_there() {
        let mut ring = filled(&[1; 6]);
        check(&mut ring, 0, 6, Some(&[]));
        check(&mut ring, 0, 4, Some(&[5, 6]));
        check(&mut ring, 0, 2, Some(&[3, 4, 5, 6]));
        check(&mut ring, 0, 1, None);
        check(&mut ring, 0, 7, None);
        let other = Position {
            epoch: 8,
            offset: 6,
        };
        assert!(ring.since(0, other).is_none());
    }

    #[test]
    fn size_and_age_bound_it_as_well() {
        let mut ring = filled(&[60, 60]);
        check(&mut ring, 0, 1, Some(&[2]));
        check(&mut ring, 0, 0, None);
        // A message that is too large to be kept was still published.
        let mut large = filled(&[101]);
        check(&mut large, 0, 0, None);
        check(&mut large, 0, 1, Some(&[]));
        let mut old = filled(&[1, 1]);
        check(&mut old, 1_000, 0, Some(&[1, 2]));
        check(&mut old, 1_001, 0, None);
        check(&mut old, 1_001, 2, Some(&[]));
    }
}
