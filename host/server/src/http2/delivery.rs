//! A reply on its way to the client, with a deadline where the client opens no window for it. Other streams of the
//! connection go on: the stream alone is reset.

use super::{activity::Activity, response::Out};
use crate::{Cause, Counters};
use h2::Reason;
use protoplex_http::StreamError;
use protoplex_http2::{Pipe, Unsent};
use protoplex_net::Timer;
use std::{
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

pub(super) struct Delivery {
    pipe: Pipe<Out>,
    taking: Taking,
}

impl Delivery {
    pub(super) fn new(pipe: Pipe<Out>) -> Self {
        Self {
            pipe,
            taking: Taking::default(),
        }
    }

    /// Gets on as far as it can. Ready when all of it is handed over.
    pub(super) fn poll(
        &mut self,
        counters: &Counters,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent<StreamError>>> {
        let handed = self.pipe.handed();
        if let Poll::Ready(sent) = self.pipe.poll(cx) {
            if self.pipe.body().fell_silent() {
                counters.count(Cause::SlowBody);
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
            counters.count(Cause::SlowReader);
            self.pipe.reset(Reason::CANCEL);
            return Poll::Ready(Err(Unsent::Peer));
        }
        Poll::Pending
    }
}

/// Pace at which the client takes one reply, while that is ready and the connection could carry it.
#[derive(Default)]
struct Taking {
    /// Over which the rate is measured, without the wait that goes on.
    waited: Duration,
    /// Bytes that had been taken when that began.
    taken: u64,
    /// When the wait that goes on began, and how long the connection had been congested by then.
    wait: Option<(Instant, Duration)>,
    timer: Timer,
}

impl Taking {
    /// The client took something, or has nothing to take.
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

    /// Something is ready of which the client takes nothing. Ready when it is too slow.
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
