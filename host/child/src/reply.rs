//! Replies that the platform makes itself. Short texts with the request id; causes go to the log.

use http::{HeaderValue, StatusCode, header};
use protoplex_handler::HandlerError;
use protoplex_http::Reply;

/// Seconds that a client should wait before another try of something that is busy or on its way.
const RETRY_AFTER_SECONDS: &str = "1";

/// A plain text with the status' own words and the request id.
pub fn status(status: StatusCode, request_id: &str) -> Reply {
    let words = status.canonical_reason().unwrap_or("error");
    Reply::text(
        status,
        format!("{} {words}\nrequest {request_id}\n", status.as_u16()),
    )
}

/// 503 that says when to come back.
pub fn unavailable(request_id: &str) -> Reply {
    status(StatusCode::SERVICE_UNAVAILABLE, request_id).with(
        header::RETRY_AFTER,
        HeaderValue::from_static(RETRY_AFTER_SECONDS),
    )
}

/// The response for a handler that gave none.
pub(super) fn handler_error(error: &HandlerError, request_id: &str) -> Reply {
    match error.status() {
        StatusCode::SERVICE_UNAVAILABLE => unavailable(request_id),
        other => status(other, request_id),
    }
}

/// 405 with what would do.
pub fn wrong_method(allowed: &[&str], request_id: &str) -> Reply {
    let reply = status(StatusCode::METHOD_NOT_ALLOWED, request_id);
    match HeaderValue::from_str(&allowed.join(", ")) {
        Ok(allow) => reply.with(header::ALLOW, allow),
        Err(_) => reply,
    }
}
