//! Faults of requests of the host's own.

/// A probe or a health check that no request could be. The key is `probe.path`, `health.host` and such.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFault {
    /// The path is not absolute.
    #[error("{key} `{path}` must start with `/`")]
    NoSlash {
        /// Key of the fault: `probe.path` for example.
        key: &'static str,
        /// Path that was written.
        path: String,
    },
    /// The path has characters that must be escaped.
    #[error("{key} `{path}`: write path and query as they stand on a request line")]
    Path {
        /// Key of the fault: `probe.path` for example.
        key: &'static str,
        /// Path that was written.
        path: String,
    },
    /// The host could not be the value of `Host`.
    #[error("{key} `{host}` must be a name, with or without a port")]
    Host {
        /// Key of the fault: `health.host` for example.
        key: &'static str,
        /// Host that was written.
        host: String,
    },
}
