//! A reply on its way to the client, with a deadline where the client opens no window for it. Other streams of the
//! connection go on: the stream alone is reset.

use super::{activity::Activity, response::ReplyFrames};
use crate::{HttpCause, HttpCounters};
use h2::Reason;
use protoplex_http::StreamError;
use protoplex_http2::{Pipe, PipeError};
use protoplex_net::Timer;
use std::{
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

pub(super) struct Delivery {
    pipe: Pipe<ReplyFrames>,
    taking: TakingPace,
}

impl Delivery {
    pub(super) fn new(pipe: Pipe<ReplyFrames>) -> Self {
        Self {
            pipe,
            taking: TakingPace::default(),
        }
    }

    /// Sends as much as the client takes. Ready when all of it is handed over.
    pub(super) fn poll(
        &mut self,
        counters: &HttpCounters,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PipeError<StreamError>>> {
        let handed = self.pipe.handed();
        if let Poll::Ready(sent) = self.pipe.poll(cx) {
            if self.pipe.body().fell_silent() {
                counters.count(HttpCause::SlowBody);
            }
            return Poll::Ready(sent);
        }
        let waits = self.pipe.waits_for_room();
        if !waits || handed != self.pipe.handed() {
            self.taking.pause(self.pipe.body().activity());
        }
        if waits {
            self.pipe.body_mut().poll_request(cx);
            let taken = self.pipe.handed();
            let activity = self.pipe.body().activity();
            ready!(self.taking.poll_too_slow(taken, activity, cx));
            counters.count(HttpCause::SlowReader);
            self.pipe.reset(Reason::CANCEL);
            return Poll::Ready(Err(PipeError::Peer));
        }
        Poll::Pending
    }
}

/// Pace at which the client takes one reply, while there is some and the connection could carry it.
#[derive(Default)]
struct TakingPace {
    /// Time waited of that over which the rate is measured, without the wait that goes on.
    waited: Duration,
    /// Bytes that had been taken when that time began.
    taken: u64,
    /// Begin of the wait that goes on, and the length of the connection's congestion by then.
    wait: Option<(Instant, Duration)>,
    timer: Timer,
}

impl TakingPace {
    /// Notes that the client took something, or has nothing to take.
    fn pause(&mut self, activity: &Activity) {
        if self.wait.is_some() {
            let now = Instant::now();
            self.waited += self.own_wait(now, activity.congested(now));
            self.wait = None;
        }
    }

    /// Time for which the client alone has been waited for in the wait that goes on.
    fn own_wait(&self, now: Instant, congested: Duration) -> Duration {
        self.wait.map_or(Duration::ZERO, |(since, before)| {
            let waited = now.saturating_duration_since(since);
            waited.saturating_sub(congested.saturating_sub(before))
        })
    }

    /// Notes that the client takes nothing of what is ready. Ready when it is too slow.
    fn poll_too_slow(&mut self, taken: u64, activity: &Activity, cx: &mut Context<'_>) -> Poll<()> {
        let rule = activity.rule();
        loop {
            let now = Instant::now();
            let congested = activity.congested(now);
            self.wait.get_or_insert((now, congested));
            let waited = self.waited + self.own_wait(now, congested);
            if waited >= rule.window {
                if !rule.is_met(taken - self.taken) {
                    return Poll::Ready(());
                }
                (self.waited, self.taken) = (Duration::ZERO, taken);
                self.wait = Some((now, congested));
                continue;
            }
            ready!(self.timer.poll_until(now + (rule.window - waited), cx));
        }
    }
}
