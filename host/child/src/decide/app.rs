//! The `app` decision, and routes of app handlers: runs the handler for a request.

use super::refused::refused;
use crate::{
    build::{Code, LoadedBuild, LoadedHandler},
    context::ChildContext,
    drain_deadline::{DrainDeadline, Needs},
    forwarded,
    metrics::DecisionKind,
    request::Request,
};
use http::{HeaderValue, Method, Uri, Version, header};
use http_body_util::BodyExt;
use protoplex_handler::{AppBody, AppHandler, HandlerError};
use protoplex_http::{
    Answer, Body, Head, Reply, ReplyBody, RequestId, check_response_head, trailers,
};
use std::{net::IpAddr, pin::pin, sync::Arc};

/// Host of a request that names none, as HTTP/1.0 need not: `wasi:http` wants one, and so does HTTP/1.1 between nodes.
pub(super) const UNNAMED_HOST: &str = "localhost";

/// The request as `wasi:http` wants it: an absolute URI and end-to-end headers.
///
/// # Errors
/// A part of the request cannot be said in `wasi:http`.
pub(crate) fn request(
    head: &Head<'_>,
    body: Body,
    from_our_node: bool,
) -> Result<http::Request<Body>, HandlerError> {
    let refused = |what: &str| {
        HandlerError::Refused(format!(
            "the request's {what} cannot be given to an app handler"
        ))
    };
    let authority = if head.authority.is_empty() {
        UNNAMED_HOST
    } else {
        head.authority
    };
    let uri = Uri::builder()
        .scheme(head.scheme.as_str())
        .authority(authority)
        .path_and_query(head.path);
    let mut request = http::Request::new(body);
    *request.method_mut() =
        Method::from_bytes(head.method.as_bytes()).map_err(|_| refused("method"))?;
    *request.uri_mut() = uri.build().map_err(|_| refused("target"))?;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = forwarded::headers(head, from_our_node);
    if trailers::takes_trailers(head) {
        // It concerns one hop, of which the app is the end.
        let trailers = HeaderValue::from_static("trailers");
        request.headers_mut().insert(header::TE, trailers);
    }
    Ok(request)
}

/// Runs an app handler. The body keeps the handler loaded until it ends; `on_cut` hears why a body ended early.
///
/// # Errors
/// The handler gave no answer.
pub(crate) async fn run(
    app: Arc<AppHandler>,
    request: http::Request<Body>,
    client: IpAddr,
    mut on_cut: impl FnMut(&HandlerError) + Send + 'static,
) -> Result<Reply, HandlerError> {
    // Heads that are here already are read before a guest runs: many of one kind in a row find their code and data in
    // the processor's caches.
    tokio::task::yield_now().await;
    let (parts, body) = app.handle(request, client).await?.into_parts();
    let mut reply = Reply::empty(parts.status);
    let mut last = None;
    for (name, value) in parts.headers {
        last = name.or(last);
        if let Some(name) = &last {
            reply.headers.push((name.clone(), value));
        }
    }
    check_response_head(&reply).map_err(HandlerError::ResponseHead)?;
    match body {
        AppBody::Whole(bytes) => {
            reply.body = ReplyBody::Full(bytes);
            // Other requests that are here already run before this one's bytes go out: replies that leave together
            // cost fewer switches to whoever reads them.
            tokio::task::yield_now().await;
        }
        AppBody::Stream(body) => {
            let body = body.map_err(move |error| {
                let _held = &app;
                on_cut(&error);
                Box::new(error) as protoplex_http::StreamError
            });
            reply.body = ReplyBody::Stream(body.boxed_unsync());
        }
    }
    Ok(reply)
}

/// Runs the app handler at `index` of the request's build, on a node that runs apps.
pub(super) fn run_here(
    context: &Arc<ChildContext>,
    index: usize,
    request: Request<'_>,
) -> Result<Answer, HandlerError> {
    if !context.role.runs_apps {
        return refused("`app` decisions are for nodes of role app; relay to `role:app` instead");
    }
    run_at(context, index, request)
}

/// The app that a decision names, as far as it is granted.
pub(super) fn granted(
    handler: &LoadedHandler,
    build: &LoadedBuild,
    name: &str,
) -> Result<usize, HandlerError> {
    if !handler.grants.apps.iter().any(|granted| granted == name) {
        return refused(format!("app `{name}` is not in grants.apps"));
    }
    let mut names = build.handlers.iter().map(|handler| &handler.name);
    match names.position(|known| known == name) {
        Some(index) => Ok(index),
        None => refused(format!("the build has no app `{name}`")),
    }
}

/// Runs the app handler at `index` of the request's build.
pub(crate) fn run_at(
    context: &Arc<ChildContext>,
    index: usize,
    request: Request<'_>,
) -> Result<Answer, HandlerError> {
    let handler = Arc::clone(&request.build.handlers[index]);
    let Code::App(app) = &handler.code else {
        return refused(format!("`{}` is no app handler", handler.name));
    };
    let (app, context) = (Arc::clone(app), Arc::clone(context));
    let deadline = DrainDeadline::new(request.build, Needs::App(Arc::clone(&app)));
    let (tally, request_id) = (request.tally.take(), RequestId::of(request.head));
    let client = request.head.client;
    let inner = self::request(request.head, request.body, request.from_our_node)?;
    Ok(Answer::Later(Box::pin(async move {
        let on_cut = {
            let (context, handler, id) = (Arc::clone(&context), Arc::clone(&handler), request_id);
            move |error: &HandlerError| context.note_failure(&handler, error, &id)
        };
        let reply = pin!(async {
            match run(app, inner, client, on_cut).await {
                Ok(reply) => {
                    handler.metrics.count(DecisionKind::APP);
                    reply
                }
                Err(error) => context.failed(&handler, &error, &request_id),
            }
        });
        tally.counted(deadline.until(&context, &request_id, reply).await)
    })))
}
