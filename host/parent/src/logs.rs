//! The recent lines of the children's logs, for the meta port.

use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::broadcast;

/// Lines of the children's logs that are kept: a few minutes of a quiet node, the moment of a fault on a busy one.
const LINES_MAX: usize = 2_000;
/// Bytes of the children's logs that are kept.
const BYTES_MAX: usize = 1 << 20;
/// A follower of the logs that is this many lines behind loses some.
const FOLLOW_LINES_MAX: usize = 1_024;

/// The lines that are kept.
#[derive(Default)]
struct Ring {
    lines: VecDeque<Arc<str>>,
    /// Bytes of all lines together.
    bytes: usize,
}

/// A ring of recent lines, and whoever follows them.
pub(super) struct Logs {
    ring: Mutex<Ring>,
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
        ring.bytes += line.len();
        ring.lines.push_back(Arc::clone(&line));
        while ring.lines.len() > LINES_MAX || ring.bytes > BYTES_MAX {
            let Some(oldest) = ring.lines.pop_front() else {
                break;
            };
            ring.bytes -= oldest.len();
        }
        // Nobody may be following.
        let _ = self.live.send(line);
    }

    /// The last `count` lines, and those that follow.
    pub(super) fn read(&self, count: usize) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        let ring = self.ring.lock();
        let skip = ring.lines.len().saturating_sub(count);
        (
            ring.lines.iter().skip(skip).cloned().collect(),
            self.live.subscribe(),
        )
    }
}
