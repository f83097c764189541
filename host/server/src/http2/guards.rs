//! What a request holds until its reply is out.

use crate::access::Entry;
use protoplex_http::Notes;
use protoplex_net::{OwnedGaugeGuard, RequestPermit};

/// What is held until the reply is out.
pub(super) struct RequestGuards {
    pub(super) _in_flight: OwnedGaugeGuard,
    pub(super) permit: Option<RequestPermit>,
    /// Only where there is an access log.
    pub(super) notes: Option<Notes>,
    pub(super) entry: Option<Entry>,
}
