//! A request's way through a child: build, route, handler, decision, reply.

use super::{
    build::Code, context::ChildContext, decide, origin, owned_head::OwnedHead, reply,
    request::Request, role::RoleService, route::Found, tally::Tally,
};
use http::StatusCode;
use protoplex_handler::{HandlerError, decision::Decision};
use protoplex_http::{Answer, Body, ClientPace, Head, HeaderField, Internal, normal};
use protoplex_server::{Origin, Service};
use std::{
    future::Future,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// The service that connections call.
pub(super) struct Requests {
    context: Arc<ChildContext>,
    role: Arc<dyn RoleService>,
    /// Prefix of the paths that the role answers itself.
    own_paths: Option<&'static str>,
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
        let token = self.context.servers.verify(internal.token).ok()?;
        origin::read(internal.origin?, &token, fields)
    }
}

impl Requests {
    pub(super) fn new(context: Arc<ChildContext>, role: Arc<dyn RoleService>) -> Self {
        let own_paths = role.own_paths();
        Self {
            context,
            role,
            own_paths,
        }
    }

    fn answer(&self, head: &Head<'_>, mut body: Body) -> Answer {
        let context = &self.context;
        if let Some(prefix) = self.own_paths
            && head.path.starts_with(prefix)
        {
            match self.role.own_request(head, body) {
                Ok(answer) => return answer,
                Err(back) => body = back,
            }
        }
        let tally = Tally::begin(context);
        context.metrics.requests.fetch_add(1, Relaxed);
        let held = context.builds.now();
        let internal = head.hop.internal;
        let from_our_node = internal.is_some_and(|said| said.relays.is_some());
        let named = match internal.map(|said| context.servers.verify(said.token)) {
            None => None,
            Some(Ok(token)) => {
                match from_our_node {
                    true => set_pace(head, ClientPace::JudgedBefore),
                    false => note_no_origin(context, head),
                }
                Some(token.build)
            }
            Some(Err(fault)) => {
                context.metrics.hop_tokens_refused.fetch_add(1, Relaxed);
                tracing::warn!(%fault, request = head.request_id, "an internal request is refused; answered 503");
                return tally.counted(Answer::Ready(reply::unavailable(head.request_id)));
            }
        };
        let build = match &named {
            None => held.active.as_ref(),
            Some(id) => held.named(id),
        };
        let answer = match build {
            Some(build) => self.routed(Request {
                head,
                body,
                build,
                from_our_node,
                tally: &tally,
            }),
            None => {
                if let Some(id) = named {
                    context.metrics.hop_misses.fetch_add(1, Relaxed);
                    tracing::warn!(
                        build = id.short(),
                        request = head.request_id,
                        "an internal request names a build this node does not hold; answered 503"
                    );
                }
                Answer::Ready(reply::unavailable(head.request_id))
            }
        };
        tally.counted(answer)
    }

    fn routed<'a>(&'a self, mut request: Request<'a>) -> Answer {
        let context = &self.context;
        let id = request.head.request_id;
        let router = &request.build.router;
        let found = router.find(request.head);
        if let Found::Route(target) = &found {
            request.tally.set_route(&target.metrics);
        }
        if context.role.keeps_connections {
            match self.role.session_request(request) {
                Err(back) => request = back,
                Ok(answer) => return answer,
            }
        }
        let nowhere = match found {
            // Some servers would read it as what another handler guards.
            Found::Route(target) if router.is_ambiguous(request.head, target) => {
                request.tally.set_route(&context.metrics.unrouted);
                reply::status(StatusCode::BAD_REQUEST, id)
            }
            Found::Route(target) => {
                if let Some(said) = target.pace {
                    set_pace(request.head, said);
                }
                return self.by_handler(target.handler, request);
            }
            Found::WrongMethod(allowed) => reply::wrong_method(&allowed, id),
            Found::Nothing => reply::status(StatusCode::NOT_FOUND, id),
        };
        Answer::Ready(nowhere)
    }

    fn by_handler(&self, index: usize, request: Request<'_>) -> Answer {
        let build = request.build;
        let handler = &*build.handlers[index].name;
        let span = tracing::debug_span!("handler", handler, build = build.id.short());
        Answer::within(span, || self.ask_handler(index, request))
    }

    fn ask_handler(&self, index: usize, request: Request<'_>) -> Answer {
        let context = &self.context;
        let (head, build) = (request.head, request.build);
        let handler = &build.handlers[index];
        if let Some(notes) = head.notes {
            notes.write(|noted| {
                noted.handler.clone_from(&handler.name);
                noted.build = build.id.short();
            });
        }
        let answer = match &handler.code {
            Code::Edge(edge) if edge.is_sync() => edge
                .decide(head, &handler.context)
                .and_then(|decision| decide::act(context, handler, request, decision)),
            Code::Edge(edge) => {
                let decision = edge.decide_later(head, &handler.context);
                return decide_later(context, index, request, decision);
            }
            Code::Live(_) => return self.role.connect(index, request),
            Code::App(_) => decide::app::run_at(context, index, request),
        };
        answer
            .unwrap_or_else(|error| Answer::Ready(context.failed(handler, &error, head.request_id)))
    }
}

/// Tells the connection how fast the client has to be; what was said first holds.
fn set_pace(head: &Head<'_>, pace: ClientPace) {
    if let Some(said) = head.hop.pace {
        let _ = said.set(pace);
    }
}

/// Answers by a handler that may suspend. It keeps a copy of the head: the connection reuses its buffer meanwhile.
fn decide_later(
    context: &Arc<ChildContext>,
    index: usize,
    request: Request<'_>,
    decision: impl Future<Output = Result<Decision, HandlerError>> + Send + 'static,
) -> Answer {
    let (context, build) = (Arc::clone(context), Arc::clone(request.build));
    let owned = OwnedHead::new(request.head);
    let (body, from_our_node) = (request.body, request.from_our_node);
    let tally = request.tally.take();
    Answer::Later(Box::pin(async move {
        let decision = decision.await;
        let later = {
            let elsewhere = Tally::elsewhere(&context);
            let handler = &build.handlers[index];
            let fields = owned.fields();
            let head = owned.head(&fields);
            let request = Request {
                head: &head,
                body,
                build: &build,
                from_our_node,
                tally: &elsewhere,
            };
            let answer =
                decision.and_then(|decision| decide::act(&context, handler, request, decision));
            answer.unwrap_or_else(|error| {
                Answer::Ready(context.failed(handler, &error, head.request_id))
            })
        };
        // A relay may outlive the build.
        drop(build);
        tally.counted(match later {
            Answer::Ready(reply) => reply,
            Answer::Later(reply) => reply.await,
        })
    }))
}

/// Counts and logs an internal request whose origin is not believed. It is answered as its sender's own.
fn note_no_origin(context: &ChildContext, head: &Head<'_>) {
    context.metrics.hop_origins_refused.fetch_add(1, Relaxed);
    let (request, sender) = (head.request_id, head.client);
    tracing::warn!(request, %sender, "an internal request's origin is none that a node of this fleet wrote for it; its sender counts as the client");
}
