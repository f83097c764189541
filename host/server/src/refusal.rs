//! Reasons to refuse a request before the service hears of it.

use crate::HttpCause;
use http::StatusCode;

/// Status and text of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HttpRefusal(pub(crate) StatusCode, pub(crate) &'static str);

/// Refusal of a request line above its limit.
pub(crate) const LINE_TOO_LONG: HttpRefusal =
    HttpRefusal(StatusCode::URI_TOO_LONG, "the request line is too long");
/// Refusal of a head above its limit.
pub(crate) const HEAD_TOO_LARGE: HttpRefusal = HttpRefusal(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "the head is too large",
);
/// Refusal of a head with more lines than the limit.
pub(crate) const TOO_MANY_HEADERS: HttpRefusal = HttpRefusal(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too many header lines",
);

/// Refusal of a client that is over its limits. Whoever refuses it so has counted it.
pub(crate) const TOO_MANY_REQUESTS: HttpRefusal =
    HttpRefusal(StatusCode::TOO_MANY_REQUESTS, "429 Too Many Requests");

impl HttpRefusal {
    /// Cause that the refusal is counted under; none for what came too slowly, which is counted where that shows.
    pub(crate) fn cause(&self) -> Option<HttpCause> {
        match self.0 {
            StatusCode::REQUEST_TIMEOUT => None,
            StatusCode::URI_TOO_LONG => Some(HttpCause::LineTooLong),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Some(HttpCause::HeadTooLarge),
            StatusCode::NOT_IMPLEMENTED => Some(HttpCause::Unknown),
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => Some(HttpCause::Version),
            _ => Some(HttpCause::Malformed),
        }
    }
}

/// Refusal of a malformed head.
pub(crate) const fn bad(why: &'static str) -> HttpRefusal {
    HttpRefusal(StatusCode::BAD_REQUEST, why)
}
