//! The service that answers requests, as connections see it.

use crate::Origin;
use protoplex_http::{Answer, Body, Head, HeaderField, Internal};

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
