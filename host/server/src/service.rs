//! The service that answers requests, as connections see it.

use crate::{Origin, reply};
use protoplex_http::{Answer, Body, Head, HeaderField, Internal};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Service that connections call for each request.
pub trait Service: Send + Sync + 'static {
    /// Answers now, or with a future that the connection polls and drops when the client goes away.
    fn call(&self, head: &Head<'_>, body: Body) -> Answer;

    /// Reads where a request came into the fleet that a node passes on, if what it says of that is believed; `fields`
    /// are its header lines. The origin then holds for the request's head, for its response's id and in the log. Asked
    /// on internal listeners alone, before [`Self::call`].
    fn origin(&self, _internal: &Internal<'_>, _fields: &[HeaderField<'_>]) -> Option<Origin> {
        None
    }
}

/// Calls the service in the span of the request. A service that panics is answered for.
pub(crate) fn call<S: Service>(service: &S, head: &Head<'_>, body: Body, id: &[u8; 16]) -> Answer {
    let span = tracing::debug_span!(
        "request",
        id = head.request_id,
        client = %head.client,
        method = head.method,
        host = head.authority,
        path = head.path,
    );
    Answer::within(span, || {
        catch_unwind(AssertUnwindSafe(|| service.call(head, body)))
            .unwrap_or_else(|_| Answer::Ready(reply::panicked(id)))
    })
}
