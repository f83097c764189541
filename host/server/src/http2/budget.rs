//! Limits on what one client may do on one HTTP/2 connection besides sending requests and taking responses. Each kind
//! of frame that costs us more than it costs the client has a number for each interval.
//!
//! h2 bounds by itself: streams at once, header lists, frames of a header block, resets that wait to be looked at,
//! errors of a client that we answer with a reset, empty `DATA`. Those are set in `http2`; here are those that h2 does
//! not know, and a count for each.

use super::frames::{self, FrameSummary};
use crate::{HttpCause, limits::Http2Limits};
use tokio::time::Instant;

/// Counts of one connection's frames, against its limits.
pub(super) struct FrameBudget {
    limits: Http2Limits,
    since: Instant,
    counts: FrameCounts,
    /// Number of `CONTINUATION`s in the header block that is on its way.
    continuations: u32,
    /// `WINDOW_UPDATE`s that the client may still send in answer to `DATA` of ours, whenever it gets to it.
    updates_due: u64,
    tiny_updates_due: u64,
}

/// Counts of frames since the interval began.
#[derive(Default)]
struct FrameCounts {
    resets: u32,
    pings: u32,
    settings: u32,
    empty: u32,
    idle: u32,
    tiny_updates: u32,
    updates: u32,
}

/// Window updates that each `DATA` frame of ours allows beside `h2_window_updates_max`: one for the stream and one
/// for the connection, and as many again.
const UPDATES_PER_DATA: u64 = 4;

impl FrameBudget {
    pub(super) fn new(limits: Http2Limits) -> Self {
        Self {
            limits,
            since: Instant::now(),
            counts: FrameCounts::default(),
            continuations: 0,
            updates_due: 0,
            tiny_updates_due: 0,
        }
    }

    /// Notes that a `DATA` frame went out.
    pub(super) fn sent_data(&mut self) {
        self.updates_due += UPDATES_PER_DATA;
    }

    /// Notes heads and pieces of replies that were ready. However small each was, the client may tell that it took it.
    /// A piece that its windows cut in many frames is one all the same.
    pub(super) fn replied(&mut self, pieces: u64) {
        self.tiny_updates_due += pieces * UPDATES_PER_DATA;
    }

    /// Counts a frame that came in.
    ///
    /// # Errors
    /// The frame is one too many.
    pub(super) fn received(&mut self, frame: &FrameSummary) -> Result<(), HttpCause> {
        let (limits, counts) = (self.limits, &mut self.counts);
        let is_ack = frame.flags & frames::ACK != 0;
        let ends_stream = frame.flags & frames::END_STREAM != 0;
        let (count, most, cause) = match frame.kind {
            frames::HEADERS => {
                self.continuations = 0;
                return Ok(());
            }
            frames::CONTINUATION => {
                self.continuations += 1;
                let fits = self.continuations <= limits.continuations_max;
                return fits.then_some(()).ok_or(HttpCause::Http2Continuations);
            }
            frames::RST_STREAM => (
                &mut counts.resets,
                limits.resets_max,
                HttpCause::Http2Resets,
            ),
            frames::DATA if frame.bytes > 0 || ends_stream => return Ok(()),
            frames::DATA => (
                &mut counts.empty,
                limits.empty_frames_max,
                HttpCause::Http2EmptyFrames,
            ),
            frames::PING | frames::SETTINGS if is_ack => return Ok(()),
            frames::PING => (&mut counts.pings, limits.pings_max, HttpCause::Http2Pings),
            frames::SETTINGS => (
                &mut counts.settings,
                limits.settings_max,
                HttpCause::Http2Settings,
            ),
            frames::WINDOW_UPDATE => {
                let is_tiny = frame.increment < limits.window_update_bytes_min;
                let (count, due) = if is_tiny {
                    (&mut counts.tiny_updates, &mut self.tiny_updates_due)
                } else {
                    (&mut counts.updates, &mut self.updates_due)
                };
                if *due > 0 {
                    *due -= 1;
                    return Ok(());
                }
                (count, limits.window_updates_max, HttpCause::Http2Windows)
            }
            // PRIORITY, and types of frames that we do not know.
            _ => (
                &mut counts.idle,
                limits.idle_frames_max,
                HttpCause::Http2Idle,
            ),
        };
        *count += 1;
        if *count <= most {
            return Ok(());
        }
        // The clock is read only when a number is reached.
        if self.since.elapsed() < limits.interval {
            return Err(cause);
        }
        self.since = Instant::now();
        self.counts = FrameCounts::default();
        Ok(())
    }
}
