//! Servers behind us: which one takes a request, the connections to them, and what comes back.
//!
//! In: an [`Outbound`] that was decided on. Out: a reply whose body is driven by whoever polls it. Nothing here knows
//! of builds or handlers.

mod body;
mod connect;
mod counters;
mod ending;
mod exchange;
mod framing;
mod group;
mod grpc;
mod h2;
mod health;
mod limits;
mod means;
mod outbound;
mod patience;
mod pool;
mod proxy_protocol;
mod response;
mod sending;
mod servers;
mod tls;
mod tunnel;

pub use counters::{Cause, Counters};
pub use group::{Group, Load, RelayError};
pub use means::{Connected, Means};
pub use outbound::{Outbound, Retry, Timeouts};
pub use servers::{Lease, Outcome, Servers, Standing, Unavailable, key_hash};
pub use tls::{NodeCertificate, UpstreamTlsError};

/// The end-to-end lines of a response's head, and its length.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn parse_response(
    bytes: &[u8],
) -> Result<Option<(protoplex_http::Lines, usize)>, &'static str> {
    let parsed = response::parse(bytes, response::Asked::default())?;
    Ok(parsed.map(|(response, end)| (response.lines, end)))
}
