//! What a request holds until its reply is out.

use crate::access::AccessEntry;
use protoplex_http::AccessNotes;
use protoplex_net::{OwnedGaugeGuard, RequestPermit};

/// Permit, record and counts of a request, until its reply is out.
pub(super) struct RequestGuards {
    pub(super) _in_flight: OwnedGaugeGuard,
    pub(super) permit: Option<RequestPermit>,
    /// Fields of the access log, where there is one.
    pub(super) notes: Option<AccessNotes>,
    pub(super) entry: Option<AccessEntry>,
}
