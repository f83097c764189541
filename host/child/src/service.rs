//! A request's way through a child: build, route, handler, decision, reply.

use super::{
    build::{Code, Slot},
    builds::Builds,
    decide::{self, Request},
    fleet::Fleet,
    metrics::{Metrics, Moment, RouteMetrics},
    origin,
    relay::Relay,
    reply,
    role::RoleService,
    route::Found,
};
use http::StatusCode;
use protoplex_fleet::build_token::{BuildToken, BuildTokenFault};
use protoplex_handler::HandlerError;
use protoplex_http::{Answer, Body, ClientPace, Head, HeaderField, Internal, Reply, normal};
use protoplex_server::{Origin, Service};
use protoplex_wire::role::RoleSpec;
use std::{
    future::Future,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::SystemTime,
};
use tokio::sync::watch;

/// What every request of a child, and its role, may reach.
pub struct ChildContext {
    pub(super) role: &'static RoleSpec,
    /// The builds that are loaded.
    pub builds: Builds,
    pub(super) fleet: watch::Sender<Fleet>,
    pub(super) relay: Relay,
    pub(super) metrics: Metrics,
}

/// The service that connections call.
pub(super) struct Requests {
    pub(super) child: Arc<ChildContext>,
    pub(super) role: Arc<dyn RoleService>,
}

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

    fn origin(&self, internal: &Internal<'_>, fields: &[HeaderField<'_>]) -> Option<Origin> {
        let token = self.child.named(internal.token).ok()?;
        origin::read(internal.origin?, &token, fields)
    }
}

impl Requests {
    fn answer(&self, head: &Head<'_>, mut body: Body) -> Answer {
        let shared = &self.child;
        match self.role.own_request(head, body) {
            Ok(answer) => return answer,
            Err(back) => body = back,
        }
        let started = Moment::now();
        shared.metrics.requests.fetch_add(1, Relaxed);
        let held = shared.builds.now();
        let internal = head.hop.internal;
        let from_our_node = internal.is_some_and(|said| said.relays.is_some());
        let named = match internal.map(|said| shared.named(said.token)) {
            None => None,
            Some(Ok(token)) => {
                match from_our_node {
                    true => say(head, ClientPace::JudgedBefore),
                    false => shared.note_no_origin(head),
                }
                Some(token.build)
            }
            Some(Err(fault)) => {
                shared.metrics.hop_tokens_refused.fetch_add(1, Relaxed);
                tracing::warn!(%fault, request = head.request_id, "an internal request is refused; answered 503");
                let answer = Answer::Ready(reply::unavailable(head.request_id));
                return shared.counted(&shared.metrics.unrouted, started, answer);
            }
        };
        let build = match &named {
            None => held.active.as_ref(),
            Some(id) => held.named(id),
        };
        let (route, answer) = match build {
            Some(build) => self.routed(Request {
                head,
                body,
                build,
                from_our_node,
            }),
            None => {
                if let Some(id) = named {
                    shared.metrics.hop_misses.fetch_add(1, Relaxed);
                    tracing::warn!(
                        build = id.short(),
                        request = head.request_id,
                        "an internal request names a build this node does not hold; answered 503"
                    );
                }
                let answer = Answer::Ready(reply::unavailable(head.request_id));
                (&shared.metrics.unrouted, answer)
            }
        };
        shared.counted(route, started, answer)
    }

    /// The answer, and where it is counted.
    fn routed<'a>(&'a self, request: Request<'a>) -> (&'a Arc<RouteMetrics>, Answer) {
        let shared = &self.child;
        let id = request.head.request_id;
        let router = &request.build.router;
        let found = router.find(request.head);
        let request = match self.role.session_request(request) {
            Err(request) => request,
            Ok(answer) => {
                let metrics = match &found {
                    Found::Route(target) => &target.metrics,
                    _ => &shared.metrics.unrouted,
                };
                return (metrics, answer);
            }
        };
        let nowhere = match found {
            // Some servers would read it as what another handler guards.
            Found::Route(target) if router.is_ambiguous(request.head, target) => {
                reply::status(StatusCode::BAD_REQUEST, id)
            }
            Found::Route(target) => {
                if let Some(said) = target.pace {
                    say(request.head, said);
                }
                return (&target.metrics, self.by_handler(target.handler, request));
            }
            Found::WrongMethod(allowed) => reply::wrong_method(&allowed, id),
            Found::Nothing => reply::status(StatusCode::NOT_FOUND, id),
        };
        (&shared.metrics.unrouted, Answer::Ready(nowhere))
    }

    fn by_handler(&self, index: usize, request: Request<'_>) -> Answer {
        let shared = &self.child;
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
            Code::Live(_) => self.role.connect(index, request),
            Code::App(_) => decide::run_app(shared, index, request).unwrap_or_else(|error| {
                Answer::Ready(shared.failed(slot, &error, head.request_id))
            }),
        }
    }
}

/// Tells the connection how fast the client has to be; what was said first holds.
fn say(head: &Head<'_>, pace: ClientPace) {
    if let Some(said) = head.hop.pace {
        let _ = said.set(pace);
    }
}

/// The asynchronous way needs a head of its own: the connection's buffer is reused meanwhile.
fn decide_later(
    shared: &Arc<ChildContext>,
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
        // A relay may outlive the build.
        drop(build);
        match later {
            Answer::Ready(reply) => reply,
            Answer::Later(reply) => reply.await,
        }
    }))
}

impl ChildContext {
    /// The token by which a node of ours says which build a request belongs to.
    fn named(&self, token: &[u8]) -> Result<Arc<BuildToken>, BuildTokenFault> {
        self.fleet.borrow().hop_key.verify(token, SystemTime::now())
    }

    /// Counts and logs an internal request whose origin is not believed. It is answered as its sender's own.
    fn note_no_origin(&self, head: &Head<'_>) {
        self.metrics.hop_origins_refused.fetch_add(1, Relaxed);
        let (request, sender) = (head.request_id, head.client);
        tracing::warn!(request, %sender, "an internal request's origin is none that a node of this fleet wrote for it; its sender counts as the client");
    }

    /// The one log line of a failed call, and what the client sees.
    pub fn failed(&self, slot: &Slot, error: &HandlerError, request_id: &str) -> Reply {
        self.note_failure(slot, error, request_id);
        reply::handler_error(error, request_id)
    }

    /// Counts and logs a failed call, also one whose response has begun.
    pub(super) fn note_failure(&self, slot: &Slot, error: &HandlerError, request_id: &str) {
        slot.metrics.count_error(error.kind());
        if error.is_fatal() {
            self.metrics.traps.fetch_add(1, Relaxed);
        }
        let build = slot.context.build.short();
        tracing::warn!(handler = slot.name, build, request = request_id, kind = error.kind(), reason = %error, "a handler failed");
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
