//! Faults of handlers.

use crate::manifest::World;

/// A handler that no node could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerFault {
    /// A name that cannot stand everywhere.
    #[error("a name is 1 to 64 of a-z, 0-9, `-`, `_`, and starts with a letter")]
    Name,
    /// A component that is too large.
    #[error("the component has {bytes} bytes; {most} is the most")]
    ComponentBytes {
        /// Size of the component.
        bytes: u64,
        /// The most that there may be.
        most: u64,
    },
    /// An instance that would be replaced before its first request.
    #[error("requests_max is 0; it must be at least 1")]
    NoRequests,
    /// An instance that would take no request.
    #[error("concurrency is 0; it must be at least 1")]
    NoConcurrency,
    /// The world has no instances of several requests.
    #[error("concurrency needs an app-0.3 or live-stateful handler, and this one is {0}")]
    NotConcurrent(World),
    /// An instance of a stateful handler outlives a call.
    #[error(
        "a live-stateful handler keeps connections in its instances; write isolation = {{ concurrency = 64 }} for so \
         many in each"
    )]
    Stateful,
    /// An instance of the old world takes one request.
    #[error("an app-0.2 handler runs per request only")]
    PerRequestOnly,
}
