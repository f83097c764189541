//! A request whose response has no head yet: polling it is what drives the instance, unless a task does.

use super::{
    answer::Answer,
    body::{AppBody, DrivenBody},
    joint::{Incoming, OpenBody},
    runner::{Runner, Running},
    track::RequestTrack,
};
use crate::{HandlerError, places::Place};
use http_body_util::BodyExt;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

type OpenResponse = http::Response<OpenBody>;

/// A request that waits for the head of its response. Dropping it says that the client has left.
pub(super) struct AwaitedHead<'a> {
    running: Running,
    answer: oneshot::Receiver<Result<OpenResponse, HandlerError>>,
    /// The guest has answered, and the answer was taken.
    answered: bool,
    track: &'a RequestTrack,
    place: Option<Place>,
    runner: &'a Arc<Runner>,
}

impl<'a> AwaitedHead<'a> {
    /// Begins the request, which has its place.
    pub(super) fn begin(
        runner: &'a Arc<Runner>,
        request: http::Request<WasiBody>,
        track: &'a Arc<RequestTrack>,
        place: Place,
    ) -> Self {
        let (sender, answer) = oneshot::channel();
        let incoming = Incoming {
            request,
            track: Arc::clone(track),
            answer: sender,
        };
        Self {
            running: runner.begin(incoming),
            answer,
            answered: false,
            track,
            place: Some(place),
            runner,
        }
    }

    /// `None` when the instance died.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<OpenResponse, HandlerError>>> {
        // It is taken out first: one that panics is gone, and not polled again.
        match std::mem::replace(&mut self.running, Running::Over) {
            Running::Here(mut drive) => {
                let polled = drive.poll(cx);
                let answer = self.answer.try_recv();
                if polled.is_pending() {
                    if answer.is_err() && self.runner.is_concurrent() {
                        // Others may use the instance while this one waits.
                        self.running = Running::Apart(Arc::clone(&drive.joint));
                        self.runner.hand_over(drive, None);
                        return self.poll_answer(cx);
                    }
                    self.running = Running::Here(drive);
                }
                match answer {
                    Ok(answer) => {
                        self.answered = true;
                        Poll::Ready(Some(answer))
                    }
                    Err(_) if polled.is_ready() => Poll::Ready(None),
                    Err(_) => Poll::Pending,
                }
            }
            elsewhere => {
                self.running = elsewhere;
                self.poll_answer(cx)
            }
        }
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<OpenResponse, HandlerError>>> {
        let polled = Pin::new(&mut self.answer).poll(cx).map(Result::ok);
        self.answered |= matches!(polled, Poll::Ready(Some(_)));
        polled
    }

    /// The response, whose head is there.
    ///
    /// # Errors
    /// See [`DrivenBody::gathered`].
    pub(super) async fn respond(
        mut self,
        response: OpenResponse,
        has_body: bool,
    ) -> Result<http::Response<AppBody>, HandlerError> {
        let drive = match std::mem::replace(&mut self.running, Running::Over) {
            Running::Here(drive) => Some(drive),
            _ => None,
        };
        let has_body = has_body && response.status() != http::StatusCode::NOT_MODIFIED;
        let place = self.place.take();
        let (parts, body) = response.into_parts();
        let limits = &self.runner.instances.factory.guest.limits;
        let answer = Answer::new(body, limits.response_bytes_max);
        let body = DrivenBody::new(answer, drive, self.runner, place);
        let body = if has_body {
            body.gathered().await?
        } else {
            AppBody::Stream(body.boxed_unsync())
        };
        Ok(http::Response::from_parts(parts, body))
    }

    /// The deadline has passed. An instance that others use is left to them, and to no newcomer.
    pub(super) fn give_up(&mut self) {
        if let Running::Apart(joint) = std::mem::replace(&mut self.running, Running::Over) {
            joint.leave(self.track, None);
        }
    }
}

/// The client has left, or was told of an error.
impl Drop for AwaitedHead<'_> {
    fn drop(&mut self) {
        let running = std::mem::replace(&mut self.running, Running::Over);
        // A response that nobody takes ends here.
        let answered = self.answered || self.answer.try_recv().is_ok();
        match running {
            Running::Here(drive) if answered => self.runner.work_on(drive, self.place.take()),
            Running::Apart(joint) if !answered => {
                let place = self.place.take();
                let place = place.and_then(|place| self.runner.background.allow(place));
                joint.leave(self.track, place);
            }
            // What is being done for a client that has left is dropped.
            Running::Here(_) | Running::Apart(_) | Running::Over => {}
        }
    }
}
