//! Faults of handlers.

use crate::manifest::World;

/// A handler that no node could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerFault {
    /// The name cannot stand everywhere where handlers are named.
    #[error("a name is 1 to 64 of a-z, 0-9, `-`, `_`, and starts with a letter")]
    Name,
    /// The component is too large.
    #[error("the component has {bytes} bytes; {most} is the most")]
    ComponentBytes {
        /// Size of the component in bytes.
        bytes: u64,
        /// The most bytes that a component may have.
        most: u64,
    },
    /// The instance would be replaced before its first request.
    #[error("requests_max is 0; it must be at least 1")]
    NoRequests,
    /// The instance would take no request.
    #[error("concurrency is 0; it must be at least 1")]
    NoConcurrency,
    /// Instances of this world do not take several requests at once.
    #[error("concurrency needs an app-0.3 or live-stateful handler, and this one is {0}")]
    NotConcurrent(World),
    /// Instances of a stateful handler outlive a call, and may not be fresh for each.
    #[error(
        "a live-stateful handler keeps connections in its instances; write isolation = {{ concurrency = 64 }} for so \
         many in each"
    )]
    Stateful,
    /// Instances of `wasi:http` 0.2 take one request.
    #[error("an app-0.2 handler runs per request only")]
    PerRequestOnly,
}
