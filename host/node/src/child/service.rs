//! A request's way through a child: build, route, handler, decision, reply.

use super::{
    build::{Code, LoadedBuild, Slot},
    decide::{self, Request},
    fleet::Fleet,
    hop::HOP_HEADER,
    live::{self, Live},
    metrics::{Metrics, Moment, RouteMetrics},
    origin::{self, ORIGIN_HEADER},
    relay::Relay,
    reply,
    retained::Builds,
    route::Found,
};
use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use protoplex_edge::{Origin, Service};
use protoplex_handler::HandlerError;
use protoplex_http::{Answer, Body, Head, HeaderField, Reply, ReplyBody, StreamError, normal};
use protoplex_wire::{BuildId, manifest::Role};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};
use tokio::sync::watch;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// What every request of a child may reach.
pub(super) struct Shared {
    pub(super) role: Role,
    pub(super) builds: Builds,
    pub(super) fleet: watch::Sender<Fleet>,
    pub(super) relay: Relay,
    pub(super) metrics: Metrics,
    pub(super) live: Live,
}

/// The service that connections call.
pub(super) struct Requests(pub(super) Arc<Shared>);

impl Service for Requests {
    /// Host and path are taken in normal form from here on: what is matched is what handlers see and servers get.
    fn call(&self, head: &Head<'_>, body: Body) -> Answer {
        let Ok(path) = normal::path(head.path) else {
            return Answer::Ready(reply::status(StatusCode::BAD_REQUEST, head.request_id));
        };
        let authority = match head.method {
            // It is a place to connect to, port included.
            "CONNECT" => head.authority.into(),
            _ => normal::authority(head.authority, head.scheme),
        };
        if authority == head.authority {
            let path = &path;
            return self.answer(&Head { path, ..*head }, body);
        }
        let mut headers = head.headers.to_vec();
        let mut hosts = headers.iter_mut();
        if let Some(host) = hosts.find(|field| field.name.eq_ignore_ascii_case("host")) {
            host.value = authority.as_bytes();
        }
        let (path, authority, headers) = (&*path, &*authority, &headers[..]);
        let head = Head {
            path,
            authority,
            headers,
            ..*head
        };
        self.answer(&head, body)
    }

    fn origin(&self, headers: &[HeaderField<'_>]) -> Option<Origin> {
        self.0.named_build(headers)?;
        origin::read(value_of(headers, ORIGIN_HEADER)?)
    }
}

impl Requests {
    fn answer(&self, head: &Head<'_>, mut body: Body) -> Answer {
        let shared = &self.0;
        match live::answer(shared, head, body) {
            Ok(answer) => return answer,
            Err(back) => body = back,
        }
        let started = Moment::now();
        shared.metrics.requests.fetch_add(1, Relaxed);
        let held = shared.builds.now();
        let named = shared.named_build(head.headers);
        let build = match &named {
            None => held.active.as_ref(),
            Some(id) => held.named(id),
        };
        let (route, answer) = match build {
            Some(build) => answer(
                shared,
                Request {
                    head,
                    body,
                    build,
                    from_our_node: named.is_some(),
                },
            ),
            None => {
                if let Some(id) = named {
                    shared.metrics.hop_misses.fetch_add(1, Relaxed);
                    tracing::warn!(
                        build = id.short(),
                        request = head.request_id,
                        "a hop named a build not held here"
                    );
                }
                let answer = Answer::Ready(reply::unavailable(head.request_id));
                (&shared.metrics.unrouted, answer)
            }
        };
        shared.counted(route, started, answer)
    }
}

/// The first value of a header.
fn value_of<'a>(headers: &[HeaderField<'a>], name: &str) -> Option<&'a [u8]> {
    let mut headers = headers.iter();
    let field = headers.find(|field| field.name.eq_ignore_ascii_case(name))?;
    Some(field.value)
}

/// The answer, and where it is counted.
fn answer<'a>(shared: &'a Arc<Shared>, request: Request<'a>) -> (&'a Arc<RouteMetrics>, Answer) {
    let id = request.head.request_id;
    let router = &request.build.router;
    let nowhere = match router.find(request.head) {
        // Some servers would read it as what another handler guards.
        Found::Route(target) if router.is_ambiguous(request.head, target) => {
            reply::status(StatusCode::BAD_REQUEST, id)
        }
        Found::Route(target) => {
            return (&target.metrics, by_handler(shared, target.handler, request));
        }
        Found::WrongMethod(allowed) => reply::wrong_method(&allowed, id),
        Found::Nothing => reply::status(StatusCode::NOT_FOUND, id),
    };
    (&shared.metrics.unrouted, Answer::Ready(nowhere))
}

fn by_handler(shared: &Arc<Shared>, index: usize, request: Request<'_>) -> Answer {
    let (head, build) = (request.head, request.build);
    let slot = &build.handlers[index];
    if let Some(notes) = head.notes {
        notes.write(|noted| {
            noted.handler.clone_from(&slot.name);
            noted.build = build.id.short();
        });
    }
    match &slot.code {
        Code::Edge(edge) if edge.is_sync() => match edge.decide(head, &slot.context) {
            Ok(decision) => decide::act(shared, slot, request, decision),
            Err(error) => Answer::Ready(shared.failed(slot, &error, head.request_id)),
        },
        Code::Edge(edge) => {
            let decision = edge.decide_later(head, &slot.context);
            decide_later(shared, index, request, decision)
        }
        Code::Live(_) => live::connect(shared, index, request),
        Code::App(_) => decide::run_app(shared, index, request)
            .unwrap_or_else(|error| Answer::Ready(shared.failed(slot, &error, head.request_id))),
    }
}

/// The asynchronous way needs a head of its own: the connection's buffer is reused meanwhile.
fn decide_later(
    shared: &Arc<Shared>,
    index: usize,
    request: Request<'_>,
    decision: impl Future<Output = Result<protoplex_handler::Decision, HandlerError>> + Send + 'static,
) -> Answer {
    let (shared, build) = (Arc::clone(shared), Arc::clone(request.build));
    let owned = super::owned_head::OwnedHead::new(request.head);
    let (body, from_our_node) = (request.body, request.from_our_node);
    Answer::Later(Box::pin(async move {
        let decision = decision.await;
        let later = {
            let slot = &build.handlers[index];
            let fields = owned.fields();
            let head = owned.head(&fields);
            match decision {
                Ok(decision) => decide::act(
                    &shared,
                    slot,
                    Request {
                        head: &head,
                        body,
                        build: &build,
                        from_our_node,
                    },
                    decision,
                ),
                Err(error) => Answer::Ready(shared.failed(slot, &error, head.request_id)),
            }
        };
        match later {
            Answer::Ready(reply) => reply,
            Answer::Later(reply) => reply.await,
        }
    }))
}

impl Shared {
    /// The build that a request is for, if a node of this fleet passes it on.
    fn named_build(&self, headers: &[HeaderField<'_>]) -> Option<BuildId> {
        let value = value_of(headers, HOP_HEADER)?;
        self.fleet.borrow().hop_key.verify(value)
    }

    /// The one log line of a failed call, and what the visitor sees.
    pub(super) fn failed(&self, slot: &Slot, error: &HandlerError, request_id: &str) -> Reply {
        slot.metrics.count_error(error.kind());
        if error.is_fatal() {
            self.metrics.traps.fetch_add(1, Relaxed);
        }
        let build = slot.context.build.short();
        tracing::warn!(handler = slot.name, build, request = request_id, kind = error.kind(), reason = %error, "a handler failed");
        reply::handler_error(error, request_id)
    }

    /// Lets a reply be made until the build's drain deadline; what streams on is cut there too.
    pub(super) async fn until_cut(
        self: &Arc<Self>,
        build: &Arc<LoadedBuild>,
        request_id: &str,
        reply: Pin<&mut impl Future<Output = Reply>>,
    ) -> Reply {
        let cut = build.cut_token();
        tokio::select! {
            biased;
            mut reply = reply => {
                reply.body = match reply.body {
                    ReplyBody::Stream(inner) => {
                        let cut = Cut { inner, cut: Box::pin(cut.clone().cancelled_owned()), shared: Arc::clone(self), _build: Arc::clone(build) };
                        ReplyBody::Stream(cut.boxed_unsync())
                    }
                    ReplyBody::Relay(mut body) => {
                        let (shared, build, cut) = (Arc::clone(self), Arc::clone(build), cut.clone());
                        body.end_with(Box::pin(async move {
                            let _build = build;
                            cut.cancelled().await;
                            shared.count_cut("streaming");
                        }));
                        ReplyBody::Relay(body)
                    }
                    body => body,
                };
                reply
            }
            () = cut.cancelled() => {
                self.count_cut(request_id);
                reply::unavailable(request_id)
            }
        }
    }

    fn count_cut(&self, request_id: &str) {
        self.metrics.cut.fetch_add(1, Relaxed);
        tracing::warn!(
            request = request_id,
            "a request outlived its build's drain deadline and was cut"
        );
    }

    /// Counts answers, and 5xx among them.
    fn counted(
        self: &Arc<Self>,
        route: &Arc<RouteMetrics>,
        started: Moment,
        answer: Answer,
    ) -> Answer {
        let count = move |shared: &Self, route: &RouteMetrics, reply: &Reply| {
            route.count(reply.status, started);
            if reply.status.is_server_error() {
                shared.metrics.errors.fetch_add(1, Relaxed);
            }
        };
        match answer {
            Answer::Ready(reply) => {
                count(self, route, &reply);
                Answer::Ready(reply)
            }
            Answer::Later(reply) => {
                let (shared, route) = (Arc::clone(self), Arc::clone(route));
                Answer::Later(Box::pin(async move {
                    let reply = reply.await;
                    count(&shared, &route, &reply);
                    reply
                }))
            }
        }
    }
}

/// A streamed body that ends with an error at its build's drain deadline.
struct Cut {
    inner: UnsyncBoxBody<Bytes, StreamError>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    shared: Arc<Shared>,
    _build: Arc<LoadedBuild>,
}

impl HttpBody for Cut {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        // First: a body that always has something, for a client that is slower, is never waited for.
        if !self.inner.is_end_stream() && self.cut.as_mut().poll(cx).is_ready() {
            self.shared.count_cut("streaming");
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
