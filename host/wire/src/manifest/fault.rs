//! Faults of a manifest: where each is, and of which kind. A sentence is made from the two and never read back, so
//! whoever shows a fault finds its line by the path, and its remedy by the kind.

use super::{
    check::{
        AssetFault, EnvironmentFault, HandlerFault, LiveFault, ProbeFault, RouteFault,
        UpstreamFault,
    },
    grants::GrantFault,
};
use std::{borrow::Cow, fmt};

/// One step on the way from the whole manifest to one value in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A field, or a name in a map.
    Key(Cow<'static, str>),
    /// A place in a list, from 0.
    Index(usize),
}

/// The way to one value of a manifest: `handlers`, `router`, `limits`, `cpu_ms_max`. Shown with dots, and with places in
/// lists from 1, as people count.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestPath(Vec<Segment>);

impl ManifestPath {
    /// The value at `key` below this one.
    #[must_use]
    pub fn key(&self, key: impl Into<Cow<'static, str>>) -> Self {
        self.with(Segment::Key(key.into()))
    }

    /// The value at a place, counted from 0, of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        let all = self.0.iter().cloned().chain([segment]);
        Self(all.collect())
    }

    /// The steps from the whole manifest, which has none.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// This path, and each that is one step shorter than the last.
    pub fn and_above(&self) -> impl Iterator<Item = Self> {
        let lengths = (0..=self.0.len()).rev();
        lengths.map(|length| Self(self.0[..length].to_vec()))
    }

    /// What a person would name first, and the steps below it.
    fn split(&self) -> (Subject<'_>, &[Segment]) {
        use Segment::{Index, Key};
        match self.0.as_slice() {
            [Key(list), Index(index), below @ ..] if list == "routes" => {
                (Subject::Route(*index), below)
            }
            [Key(map), Key(name), below @ ..] => match &**map {
                "handlers" => (Subject::Named("handler", name), below),
                "upstreams" => (Subject::Named("upstream", name), below),
                "assets" => (Subject::Named("asset", name), below),
                _ => match below {
                    [Key(member), below @ ..] if name == "namespaces" => {
                        (Subject::Namespace(map, member), below)
                    }
                    _ => (Subject::Section(map), &self.0[1..]),
                },
            },
            [Key(section)] => (Subject::Section(section), &[]),
            _ => (Subject::Manifest, &self.0),
        }
    }

    /// The beginning of a sentence about the value: ``handler `router`: ``, or nothing for the whole manifest.
    pub fn subject(&self) -> impl fmt::Display + '_ {
        self.split().0
    }

    /// The path within its subject, as people write it: without places in lists, and without the table `limits`.
    fn written_key(&self) -> String {
        let steps = self.split().1.iter().filter_map(|step| match step {
            Segment::Key(key) if key == "limits" => None,
            Segment::Key(key) => Some(&**key),
            Segment::Index(_) => None,
        });
        steps.collect::<Vec<_>>().join(".")
    }
}

impl fmt::Display for ManifestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, segment) in self.0.iter().enumerate() {
            if depth > 0 {
                f.write_str(".")?;
            }
            match segment {
                Segment::Key(key) => f.write_str(key)?,
                Segment::Index(index) => write!(f, "{}", index + 1)?,
            }
        }
        Ok(())
    }
}

/// The part of a manifest that a fault is told of.
enum Subject<'a> {
    Manifest,
    /// A route by its place, from 0.
    Route(usize),
    /// A kind of thing, and its name.
    Named(&'static str, &'a str),
    /// A section, and one of its namespaces.
    Namespace(&'a str, &'a str),
    /// Any other section.
    Section(&'a str),
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => Ok(()),
            Self::Route(index) => write!(f, "route {}: ", index + 1),
            Self::Named(kind, name) => write!(f, "{kind} `{name}`: "),
            Self::Namespace(section, name) => write!(f, "{section}.namespaces.{name}: "),
            Self::Section(section) => write!(f, "{section}: "),
        }
    }
}

/// One fault of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFault {
    /// The value that is wrong.
    pub at: ManifestPath,
    /// What is wrong with it.
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

/// What can be wrong with a value of a manifest. Each section has its own enum, beside the rules that it tells of.
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
    /// Nothing would ever pass.
    #[error("is 0, so nothing could ever run; leave it out for the default")]
    Zero,
    /// More than there may be.
    #[error("is {value}; {most} is the most")]
    TooMuch {
        /// The number.
        value: u64,
        /// The highest that is allowed.
        most: u64,
    },
    /// Outside a range.
    #[error("is {value}; it must be from {least} to {most}")]
    OutOfRange {
        /// The number.
        value: u64,
        /// The lowest that is allowed.
        least: u64,
        /// The highest that is allowed.
        most: u64,
    },
    /// A list that is too long.
    #[error("has {count} of them; {most} is the most")]
    TooMany {
        /// Members of the list.
        count: u64,
        /// The most that there may be.
        most: u64,
    },
}

/// A name that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// A route's handler.
    #[error("there is no handler `{0}`")]
    Handler(String),
    /// An app handler that a grant names.
    #[error("grants.apps names `{0}`, which is no app handler of the build")]
    App(String),
    /// An upstream that a grant names.
    #[error("grants.relay names upstream `{0}`, which the build does not have")]
    Upstream(String),
    /// A setting that a grant names.
    #[error("grants.settings names setting `{0}`, which the build does not have")]
    Setting(String),
    /// A namespace of channels that a grant names.
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

    #[test]
    fn a_path_is_shown_with_dots_and_places_from_one() {
        let at = path(&["routes"]).index(0).key("methods").index(1);
        assert_eq!(at.to_string(), "routes.1.methods.2");
        let above: Vec<_> = at.and_above().map(|path| path.to_string()).collect();
        assert_eq!(
            above,
            [
                "routes.1.methods.2",
                "routes.1.methods",
                "routes.1",
                "routes",
                ""
            ]
        );
    }
}
