//! The recent lines of the children's logs, for the meta port.

use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::broadcast;

/// Lines that are kept: a few minutes of a quiet node, the moment of a fault on a busy one.
const LINES_MAX: usize = 2_000;
/// Bytes that are kept.
const BYTES_MAX: usize = 1 << 20;
/// A follower that is this many lines behind loses some.
const FOLLOW_LINES_MAX: usize = 1_024;

/// A ring of lines.
pub(super) struct Logs {
    ring: Mutex<(VecDeque<Arc<str>>, usize)>,
    live: broadcast::Sender<Arc<str>>,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            ring: Mutex::default(),
            live: broadcast::Sender::new(FOLLOW_LINES_MAX),
        }
    }
}

impl Logs {
    pub(super) fn push(&self, line: &str) {
        let line: Arc<str> = line.into();
        let mut ring = self.ring.lock();
        ring.1 += line.len();
        ring.0.push_back(Arc::clone(&line));
        while ring.0.len() > LINES_MAX || ring.1 > BYTES_MAX {
            let Some(oldest) = ring.0.pop_front() else {
                break;
            };
            ring.1 -= oldest.len();
        }
        // Nobody may be following.
        let _ = self.live.send(line);
    }

    /// The last `count` lines, and those that follow.
    pub(super) fn read(&self, count: usize) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        let ring = self.ring.lock();
        let skip = ring.0.len().saturating_sub(count);
        (
            ring.0.iter().skip(skip).cloned().collect(),
            self.live.subscribe(),
        )
    }
}
