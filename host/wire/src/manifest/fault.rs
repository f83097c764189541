//! Faults of a manifest: where each is, and of which kind. A sentence is made from the two and never read back, so
//! whoever shows a fault finds its line by the path, and its remedy by the kind.

use std::fmt;

mod asset;
mod environment;
mod grant;
mod handler;
mod live;
mod path;
mod probe;
mod route;
mod upstream;

pub use asset::AssetFault;
pub use environment::EnvironmentFault;
pub use grant::GrantFault;
pub use handler::HandlerFault;
pub use live::LiveFault;
pub use path::{ManifestPath, PathSegment};
pub use probe::ProbeFault;
pub use route::RouteFault;
pub use upstream::UpstreamFault;

/// One fault of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFault {
    /// The value that is wrong.
    pub at: ManifestPath,
    /// Kind of the fault.
    pub kind: FaultKind,
}

impl fmt::Display for ManifestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, kind } = self;
        match kind {
            // The word itself tells what it is.
            FaultKind::Format { .. } => write!(f, "{kind}"),
            FaultKind::Number(number) => {
                write!(f, "{}{} {number}", at.subject(), at.written_key())
            }
            _ => write!(f, "{}{kind}", at.subject()),
        }
    }
}

/// Kind of a fault in a value of a manifest. Each section has its own enum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// The manifest is of a later version.
    #[error("format {found} is not known; this version reads format {known}")]
    Format {
        /// The format that it names.
        found: u32,
        /// The format that this version reads.
        known: u32,
    },
    /// A number out of its range.
    #[error(transparent)]
    Number(#[from] NumberFault),
    /// A name of something that the build does not have.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// A handler that no node could use.
    #[error(transparent)]
    Handler(#[from] HandlerFault),
    /// A grant that could never match.
    #[error(transparent)]
    Grant(#[from] GrantFault),
    /// An environment that no instance could have.
    #[error(transparent)]
    Environment(#[from] EnvironmentFault),
    /// A probe or a health check that no request could be.
    #[error(transparent)]
    Probe(#[from] ProbeFault),
    /// A route that no request could take.
    #[error(transparent)]
    Route(#[from] RouteFault),
    /// A file that could not be served.
    #[error(transparent)]
    Asset(#[from] AssetFault),
    /// Servers that could not be used.
    #[error(transparent)]
    Upstream(#[from] UpstreamFault),
    /// Rules of channels that could not be kept.
    #[error(transparent)]
    Live(#[from] LiveFault),
}

/// A number out of its range; the key stands before it in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberFault {
    /// A zero by which nothing would ever pass.
    #[error("is 0, so nothing could ever run; leave it out for the default")]
    Zero,
    /// A number that is too high.
    #[error("is {value}; {most} is the most")]
    TooMuch {
        /// The number that was written.
        value: u64,
        /// The highest that is allowed.
        most: u64,
    },
    /// A number outside a range.
    #[error("is {value}; it must be from {least} to {most}")]
    OutOfRange {
        /// The number that was written.
        value: u64,
        /// The lowest that is allowed.
        least: u64,
        /// The highest that is allowed.
        most: u64,
    },
    /// A list that is too long.
    #[error("has {count} of them; {most} is the most")]
    TooMany {
        /// Number of members of the list.
        count: u64,
        /// The most that there may be.
        most: u64,
    },
}

/// A name that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// A handler that a route names and the build does not have.
    #[error("there is no handler `{0}`")]
    Handler(String),
    /// An app handler that a grant names and the build does not have.
    #[error("grants.apps names `{0}`, which is no app handler of the build")]
    App(String),
    /// An upstream that a grant names and the build does not have.
    #[error("grants.relay names upstream `{0}`, which the build does not have")]
    Upstream(String),
    /// A setting that a grant names and the build does not have.
    #[error("grants.settings names setting `{0}`, which the build does not have")]
    Setting(String),
    /// A namespace of channels that a grant names and the build does not have.
    #[error("grants.channels names `{0}`, and there is no [live.namespaces.{0}]")]
    Namespace(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(keys: &[&'static str]) -> ManifestPath {
        let root = ManifestPath::default();
        keys.iter().fold(root, |path, &key| path.key(key))
    }

    #[test]
    fn a_fault_is_told_of_its_subject_and_its_key() {
        let zero = |at| {
            let kind = NumberFault::Zero.into();
            ManifestFault { at, kind }.to_string()
        };
        let end = "is 0, so nothing could ever run; leave it out for the default";
        let route = path(&["routes"]).index(2).key("body_timeout_ms");
        for (at, begin) in [
            (
                path(&["handlers", "a", "limits", "cpu_ms_max"]),
                "handler `a`: cpu_ms_max",
            ),
            (route, "route 3: body_timeout_ms"),
            (
                path(&["upstreams", "a.b", "retries", "attempts_max"]),
                "upstream `a.b`: retries.attempts_max",
            ),
            (path(&["live", "limits", "ping_ms"]), "live: ping_ms"),
            (
                path(&["live", "namespaces", "chat", "keys_max"]),
                "live.namespaces.chat: keys_max",
            ),
            // A section that is still to come.
            (
                path(&["mail", "queue", "bytes_max"]),
                "mail: queue.bytes_max",
            ),
        ] {
            assert_eq!(zero(at), format!("{begin} {end}"));
        }
    }
}
