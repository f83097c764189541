//! Why a request is refused before the service hears of it.

use crate::Cause;
use http::StatusCode;

/// Why a head is refused, and with which status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) &'static str);

/// A request line above its limit.
pub(crate) const LINE_TOO_LONG: Refusal =
    Refusal(StatusCode::URI_TOO_LONG, "the request line is too long");
/// A head above its limit.
pub(crate) const HEAD_TOO_LARGE: Refusal = Refusal(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "the head is too large",
);
/// More header lines than the limit.
pub(crate) const TOO_MANY_HEADERS: Refusal = Refusal(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too many header lines",
);

/// For a client that is over its limits. Who refuses it so has counted it.
pub(crate) const TOO_MANY_REQUESTS: Refusal =
    Refusal(StatusCode::TOO_MANY_REQUESTS, "429 Too Many Requests");

impl Refusal {
    /// The cause that it is counted under; none for what came too slowly, which is counted where that shows.
    pub(crate) fn cause(&self) -> Option<Cause> {
        match self.0 {
            StatusCode::REQUEST_TIMEOUT => None,
            StatusCode::URI_TOO_LONG => Some(Cause::LineTooLong),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Some(Cause::HeadTooLarge),
            StatusCode::NOT_IMPLEMENTED => Some(Cause::Unknown),
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => Some(Cause::Version),
            _ => Some(Cause::Malformed),
        }
    }
}

/// A malformed head.
pub(crate) const fn bad(why: &'static str) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, why)
}
