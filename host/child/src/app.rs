//! Running an app handler for a request.

use super::forwarded;
use http::{HeaderValue, Method, Request, Uri, Version, header};
use http_body_util::BodyExt;
use protoplex_handler::{AppBody, AppHandler, HandlerError};
use protoplex_http::{Body, Head, Reply, ReplyBody, check_response_head, trailers};
use std::{net::IpAddr, sync::Arc};

/// Host of a request that names none, as HTTP/1.0 need not: `wasi:http` wants one, and so does HTTP/1.1 between nodes.
pub(super) const UNNAMED_HOST: &str = "localhost";

/// The request as `wasi:http` wants it: an absolute URI and end-to-end headers.
///
/// # Errors
/// What cannot be said in a `wasi:http` request.
pub(super) fn request(
    head: &Head<'_>,
    body: Body,
    from_our_node: bool,
) -> Result<Request<Body>, HandlerError> {
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
    let mut request = Request::new(body);
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

/// Runs it. The body keeps the handler loaded until it ends; `cut` is told why one is not whole whose head is out.
///
/// # Errors
/// The handler gave no answer.
pub(super) async fn run(
    app: Arc<AppHandler>,
    request: Request<Body>,
    client: IpAddr,
    mut cut: impl FnMut(&HandlerError) + Send + 'static,
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
                cut(&error);
                Box::new(error) as protoplex_http::StreamError
            });
            reply.body = ReplyBody::Stream(body.boxed_unsync());
        }
    }
    Ok(reply)
}
