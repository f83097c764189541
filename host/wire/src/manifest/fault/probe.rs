//! Faults of requests of the host's own.

/// A probe or a health check that no request could be. The key is `probe.path`, `health.host` and such.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFault {
    /// The path is not absolute.
    #[error("{key} `{path}` must start with `/`")]
    NoSlash {
        /// The key.
        key: &'static str,
        /// The path.
        path: String,
    },
    /// The path has what must be escaped.
    #[error("{key} `{path}`: write path and query as they stand on a request line")]
    Path {
        /// The key.
        key: &'static str,
        /// The path.
        path: String,
    },
    /// The host is no `Host`.
    #[error("{key} `{host}` must be a name, with or without a port")]
    Host {
        /// The key.
        key: &'static str,
        /// The host.
        host: String,
    },
}
