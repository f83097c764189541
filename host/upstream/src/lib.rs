//! Servers behind us: which one takes a request, the connections to them, and what comes back.
//!
//! In: an [`Outbound`] that was decided on. Out: a reply whose body is driven by whoever polls it. Nothing here knows
//! of builds or handlers.

mod body;
mod connect;
mod context;
mod counters;
mod deadlines;
mod ending;
mod exchange;
mod framing;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod group;
mod grpc;
mod h2;
mod health;
mod limits;
mod outbound;
mod pool;
mod proxy_protocol;
mod response;
mod sending;
mod servers;
mod tls;
mod tunnel;

pub use context::{OpenConnections, UpstreamContext};
pub use counters::{FailureCause, UpstreamCounters};
pub use group::{Group, Load, RelayError};
pub use outbound::{Outbound, Retry, TimeoutOverrides};
pub use servers::{AttemptOutcome, Lease, ServerHealth, Servers, Unavailable, key_hash};
pub use tls::{NodeCertificate, UpstreamTlsError};
