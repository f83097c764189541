//! The drain deadline of a build, for one request. A switch ends what still needs the old build when that deadline passes,
//! and nothing else: a relay goes on while a build that answers has its upstream unchanged, an app's response while one has
//! its handler.

use super::{build::LoadedBuild, builds::LoadedBuilds, context::ChildContext, reply};
use bytes::Bytes;
use http::uri::Authority;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use protoplex_handler::AppHandler;
use protoplex_http::{Reply, ReplyBody, StreamError};
use protoplex_upstream::Group;
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};
use tokio_util::sync::CancellationToken;

/// The part of a build that a request in flight still uses.
pub(super) enum Needs {
    /// Nothing: another node has the request, and ends it by its own builds.
    Nothing,
    /// The servers of an upstream that the build names.
    Upstream(Arc<Group>),
    /// A server that a handler's grants name by its address.
    Server(Authority),
    /// An app handler, which runs it.
    App(Arc<AppHandler>),
}

/// Ends a request at its build's drain deadline. Holding this does not keep the build loaded.
pub(super) struct DrainDeadline {
    needs: Needs,
    /// Cancelled at the drain deadline of the build that it goes by now.
    passed: CancellationToken,
}

impl DrainDeadline {
    pub(super) fn new(build: &LoadedBuild, needs: Needs) -> Self {
        let passed = build.deadline_token();
        Self { needs, passed }
    }

    /// Returns when the request has to end: the drain deadlines of all builds that have what it needs have passed.
    async fn over(&mut self, context: &ChildContext) {
        if matches!(self.needs, Needs::Nothing) {
            return std::future::pending().await;
        }
        loop {
            self.passed.cancelled().await;
            match self.needs.token(&context.builds.now()) {
                Some(next) => self.passed = next,
                None => return,
            }
        }
    }

    /// Waits for a reply until the deadline; its body ends by then, too.
    pub(super) async fn until(
        mut self,
        context: &Arc<ChildContext>,
        request_id: &str,
        reply: Pin<&mut impl Future<Output = Reply>>,
    ) -> Reply {
        let mut reply = {
            let over = pin!(self.over(context));
            tokio::select! {
                biased;
                reply = reply => reply,
                () = over => {
                    note_passed(context, request_id);
                    return reply::unavailable(request_id);
                }
            }
        };
        if matches!(self.needs, Needs::Nothing) {
            return reply;
        }
        let over = || {
            let (context, request_id) = (Arc::clone(context), request_id.to_owned());
            Box::pin(async move {
                self.over(&context).await;
                note_passed(&context, &request_id);
            })
        };
        reply.body = match reply.body {
            ReplyBody::Stream(inner) => {
                let limited = UntilDeadline {
                    inner,
                    over: over(),
                };
                ReplyBody::Stream(limited.boxed_unsync())
            }
            ReplyBody::Relay(mut body) => {
                body.end_with(over());
                ReplyBody::Relay(body)
            }
            body => body,
        };
        reply
    }
}

/// Counts and logs a request that was ended by its build's drain deadline.
fn note_passed(context: &ChildContext, request_id: &str) {
    context.metrics.cut.fetch_add(1, Relaxed);
    tracing::warn!(
        request = request_id,
        "a request outlived its build's drain deadline and was cut"
    );
}

impl Needs {
    /// Cancelled at the deadline of a build that has all of this, if one answers or drains.
    fn token(&self, held: &LoadedBuilds) -> Option<CancellationToken> {
        held.all().find_map(|build| {
            // Taken before it is looked at: a deadline that passes in between cancels it.
            let token = build.deadline_token();
            (held.is_active(build) || build.is_draining()).then_some(())?;
            self.are_in(build).then_some(token)
        })
    }

    fn are_in(&self, build: &LoadedBuild) -> bool {
        match self {
            Self::Nothing => true,
            Self::Upstream(group) => build.upstreams.has(group),
            Self::Server(server) => {
                let mut relays = build.handlers.iter().flat_map(|handler| &handler.relays);
                relays.any(|grant| grant.is_to_server(server))
            }
            Self::App(app) => build
                .handlers
                .iter()
                .any(|handler| handler.code.is_app(app)),
        }
    }
}

/// A streamed body that ends with an error when its request has to end.
struct UntilDeadline {
    inner: UnsyncBoxBody<Bytes, StreamError>,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl HttpBody for UntilDeadline {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        // First: a body that always has something, for a client that is slower, is never waited for.
        if !self.inner.is_end_stream() && self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err("the build's drain deadline passed".into())));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
