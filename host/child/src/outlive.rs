//! Requests that outlive their build. A switch ends what still needs the old build when its drain deadline passes, and
//! nothing else: a relay goes on while a build that answers has its upstream unchanged, an app's response while one has
//! its handler.

use super::{build::LoadedBuild, builds::Held, reply, service::ChildContext};
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

/// The end of a request by its build's drain deadline. Holding it does not keep the build loaded.
pub(super) struct Lifetime {
    needs: Needs,
    /// Cancelled at the drain deadline of the build that it goes by now.
    cut: CancellationToken,
}

impl Lifetime {
    pub(super) fn new(build: &LoadedBuild, needs: Needs) -> Self {
        let cut = build.cut_token();
        Self { needs, cut }
    }

    /// Returns when the request has to end: the drain deadlines of all builds that have what it needs have passed.
    async fn over(&mut self, shared: &ChildContext) {
        if matches!(self.needs, Needs::Nothing) {
            return std::future::pending().await;
        }
        loop {
            self.cut.cancelled().await;
            match self.needs.token(&shared.builds.now()) {
                Some(next) => self.cut = next,
                None => return,
            }
        }
    }
}

impl Needs {
    /// Cancelled at the deadline of a build that has all of this, if one answers or drains.
    fn token(&self, held: &Held) -> Option<CancellationToken> {
        held.all().find_map(|build| {
            // Taken before it is looked at: a deadline that passes in between cancels it.
            let token = build.cut_token();
            (held.is_active(build) || build.is_draining()).then_some(())?;
            self.are_in(build).then_some(token)
        })
    }

    fn are_in(&self, build: &LoadedBuild) -> bool {
        match self {
            Self::Nothing => true,
            Self::Upstream(group) => build.upstreams.has(group),
            Self::Server(server) => {
                let mut relays = build.handlers.iter().flat_map(|slot| &slot.relays);
                relays.any(|grant| grant.is_to_server(server))
            }
            Self::App(app) => build.handlers.iter().any(|slot| slot.code.is_app(app)),
        }
    }
}

impl ChildContext {
    /// Waits for a reply, at most as long as its request may last; its body is cut at that time, too.
    pub(super) async fn until_cut(
        self: &Arc<Self>,
        mut lifetime: Lifetime,
        request_id: &str,
        reply: Pin<&mut impl Future<Output = Reply>>,
    ) -> Reply {
        let mut reply = {
            let over = pin!(lifetime.over(self));
            tokio::select! {
                biased;
                reply = reply => reply,
                () = over => {
                    self.count_cut(request_id);
                    return reply::unavailable(request_id);
                }
            }
        };
        if matches!(lifetime.needs, Needs::Nothing) {
            return reply;
        }
        let over = || {
            let (shared, request_id) = (Arc::clone(self), request_id.to_owned());
            Box::pin(async move {
                lifetime.over(&shared).await;
                shared.count_cut(&request_id);
            })
        };
        reply.body = match reply.body {
            ReplyBody::Stream(inner) => {
                let cut = Cut {
                    inner,
                    over: over(),
                };
                ReplyBody::Stream(cut.boxed_unsync())
            }
            ReplyBody::Relay(mut body) => {
                body.end_with(over());
                ReplyBody::Relay(body)
            }
            body => body,
        };
        reply
    }

    fn count_cut(&self, request_id: &str) {
        self.metrics.cut.fetch_add(1, Relaxed);
        tracing::warn!(
            request = request_id,
            "a request outlived its build's drain deadline and was cut"
        );
    }
}

/// A streamed body that ends with an error when its request has to end.
struct Cut {
    inner: UnsyncBoxBody<Bytes, StreamError>,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl HttpBody for Cut {
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
