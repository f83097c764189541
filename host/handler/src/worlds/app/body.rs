//! The body of an app's response as a connection reads it: polling it is what drives the instance, unless a task does.

use super::{answer::Answer, drive::Drive, runner::Runner};
use crate::{HandlerError, places::Place};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Frames that are looked at before a response's head goes out: one of data, and the end.
const AHEAD_MAX: usize = 2;
/// Time in which a body that has begun must be whole where no place for a stream is free. A guest that computes a
/// little more needs a few turns of a busy child.
const WHOLE_WAIT_MAX: Duration = Duration::from_millis(100);

/// The body of a response.
pub enum AppBody {
    /// The whole body was there at once, and its instance is free again.
    Whole(Bytes),
    /// A body that is still being made. Reading it is what drives the instance. Its error says why it is not whole.
    Stream(UnsyncBoxBody<Bytes, HandlerError>),
}

pub(super) struct DrivenBody {
    /// Read before the head went out; once it is out, the last stands first.
    ahead: Vec<Option<Result<Frame<Bytes>, HandlerError>>>,
    // Dropped in this order: the answer's end, then what is left to do.
    answer: Answer,
    rest: Rest,
}

/// Work that is left to be done in the instance.
struct Rest {
    drive: Option<Drive>,
    runner: Arc<Runner>,
    place: Option<Place>,
}

impl DrivenBody {
    pub(super) fn new(
        answer: Answer,
        drive: Option<Drive>,
        runner: &Arc<Runner>,
        place: Option<Place>,
    ) -> Self {
        let runner = Arc::clone(runner);
        let rest = Rest {
            drive,
            runner,
            place,
        };
        Self {
            ahead: Vec::new(),
            answer,
            rest,
        }
    }

    /// Reads what is there without waiting: a small body is whole at once, and goes out with its length and without
    /// having been a stream.
    ///
    /// A stream changes its place for one among the streams, so that short requests wait for none. Where there is none, a
    /// body has a moment to become whole: its guest may have been interrupted just before the end.
    ///
    /// # Errors
    /// Nothing of the body came before its error: the head has not gone out, so the request gets an answer that says so.
    /// Or there is no place for one more stream.
    ///
    /// # Cancel safety
    /// Dropping the future is dropping the body.
    pub(super) async fn gathered(mut self) -> Result<AppBody, HandlerError> {
        self.ahead.reserve_exact(AHEAD_MAX);
        let looked = self.look_ahead(&mut Context::from_waker(Waker::noop()));
        if looked.is_pending() && !self.rest.begins_stream() {
            let more = poll_fn(|cx| self.look_ahead(cx));
            // Past that time, it is a stream.
            let _ = tokio::time::timeout(WHOLE_WAIT_MAX, more).await;
        }
        match self.ahead.as_slice() {
            [None] => return Ok(AppBody::Whole(Bytes::new())),
            [Some(Err(error))] => return Err(error.clone()),
            [Some(Ok(frame)), None] => {
                if let Some(data) = frame.data_ref() {
                    return Ok(AppBody::Whole(data.clone()));
                }
            }
            _ => {}
        }
        if !self.rest.begins_stream() {
            // The instance is thrown away with what it was going to send.
            self.rest.drive = None;
            return Err(HandlerError::Streams(self.rest.runner.streams.taken()));
        }
        self.ahead.reverse();
        Ok(AppBody::Stream(self.boxed_unsync()))
    }

    /// Reads frames until there are enough to tell a whole body from a stream.
    fn look_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.ahead.len() < AHEAD_MAX {
            let frame = std::task::ready!(self.poll_answer(cx));
            let goes_on = matches!(frame, Some(Ok(_)));
            self.ahead.push(frame);
            if !goes_on {
                break;
            }
        }
        Poll::Ready(())
    }

    /// The next frame that was not read ahead.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandlerError>>> {
        let mut answer = Pin::new(&mut self.answer);
        // What is there already needs no waker, and the guest, whom only we poll, none to wake.
        let mut nobody = Context::from_waker(Waker::noop());
        let first = if self.rest.drive.is_some() {
            &mut nobody
        } else {
            &mut *cx
        };
        let mut polled = answer.as_mut().poll_frame(first);
        if polled.is_pending() && self.rest.poll(cx) {
            polled = answer.as_mut().poll_frame(cx);
            if polled.is_pending() && self.rest.runner.is_concurrent() {
                self.rest.share();
            }
        }
        if self.answer.has_ended() {
            // Mostly the guest has nothing left to do, and its instance is free for the next request.
            self.rest.poll(&mut Context::from_waker(Waker::noop()));
            self.rest.finish();
        }
        polled
    }
}

impl Rest {
    /// Polls what is left of a response. Returns whether the guest may have written something.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        // It is taken out first: one that panics is gone, and not polled again.
        let Some(mut drive) = self.drive.take() else {
            return false;
        };
        if drive.poll(cx).is_pending() {
            self.drive = Some(drive);
        }
        true
    }

    /// Takes a place among the streams, unless it has one; where there is none, it keeps the place that it has.
    fn begins_stream(&mut self) -> bool {
        let Some(place) = self.place.take() else {
            return true;
        };
        let exchanged = place.exchange(&self.runner.streams);
        let begins = exchanged.is_ok();
        self.place = Some(exchanged.unwrap_or_else(|kept| kept));
        begins
    }

    /// Lets others use the instance while this request waits.
    fn share(&mut self) {
        if let Some(drive) = self.drive.take() {
            self.runner.hand_over(drive, None);
        }
    }

    /// The body has ended. What the guest still does is nobody's that waits.
    fn finish(&mut self) {
        if let Some(drive) = self.drive.take() {
            self.runner.work_on(drive, self.place.take());
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Body for DrivenBody {
    type Data = Bytes;
    type Error = HandlerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandlerError>>> {
        let this = self.get_mut();
        match this.ahead.pop() {
            Some(frame) => Poll::Ready(frame),
            None => this.poll_answer(cx),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.ahead.is_empty() {
            self.answer.size_hint()
        } else {
            // The answer tells only what follows them, and an error or trailers may be among them: only chunks, or a
            // stream, can bring either.
            SizeHint::default()
        }
    }
}
