//! Ways to the values of a manifest.

use std::{borrow::Cow, fmt};

/// One step on the way from the whole manifest to one value in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathSegment {
    /// A field, or a name in a map.
    Key(Cow<'static, str>),
    /// Index in a list, from 0.
    Index(usize),
}

/// Path to one value of a manifest: `handlers`, `router`, `limits`, `cpu_ms_max`. Shown with dots, and with indexes
/// from 1, as people count.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestPath(Vec<PathSegment>);

impl ManifestPath {
    /// Path of the value at `key` below this one.
    #[must_use]
    pub fn key(&self, key: impl Into<Cow<'static, str>>) -> Self {
        self.with(PathSegment::Key(key.into()))
    }

    /// Path of the member of this list at `index`, from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(PathSegment::Index(index))
    }

    fn with(&self, segment: PathSegment) -> Self {
        let all = self.0.iter().cloned().chain([segment]);
        Self(all.collect())
    }

    /// The steps from the whole manifest, which has none.
    pub fn segments(&self) -> &[PathSegment] {
        &self.0
    }

    /// Iterates over this path, and each that is one step shorter than the last.
    pub fn and_above(&self) -> impl Iterator<Item = Self> {
        let lengths = (0..=self.0.len()).rev();
        lengths.map(|length| Self(self.0[..length].to_vec()))
    }

    /// Splits the path into what a person would name first, and the steps below it.
    fn split(&self) -> (PathSubject<'_>, &[PathSegment]) {
        use PathSegment::{Index, Key};
        match self.0.as_slice() {
            [Key(list), Index(index), below @ ..] if list == "routes" => {
                (PathSubject::Route(*index), below)
            }
            [Key(map), Key(name), below @ ..] => match &**map {
                "handlers" => (PathSubject::Named("handler", name), below),
                "upstreams" => (PathSubject::Named("upstream", name), below),
                "assets" => (PathSubject::Named("asset", name), below),
                _ => match below {
                    [Key(member), below @ ..] if name == "namespaces" => {
                        (PathSubject::Namespace(map, member), below)
                    }
                    _ => (PathSubject::Section(map), &self.0[1..]),
                },
            },
            [Key(section)] => (PathSubject::Section(section), &[]),
            _ => (PathSubject::Manifest, &self.0),
        }
    }

    /// The beginning of a sentence about the value: ``handler `router`: ``, or nothing for the whole manifest.
    pub fn subject(&self) -> impl fmt::Display + '_ {
        self.split().0
    }

    /// The path within its subject, as people write it: without places in lists, and without the table `limits`.
    pub(super) fn written_key(&self) -> String {
        let steps = self.split().1.iter().filter_map(|step| match step {
            PathSegment::Key(key) if key == "limits" => None,
            PathSegment::Key(key) => Some(&**key),
            PathSegment::Index(_) => None,
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
                PathSegment::Key(key) => f.write_str(key)?,
                PathSegment::Index(index) => write!(f, "{}", index + 1)?,
            }
        }
        Ok(())
    }
}

/// The part of a manifest that a fault is told of.
enum PathSubject<'a> {
    Manifest,
    /// A route by its index, from 0.
    Route(usize),
    /// A kind of thing, and the name of one.
    Named(&'static str, &'a str),
    /// A section, and one of its namespaces.
    Namespace(&'a str, &'a str),
    /// A section of the manifest without names.
    Section(&'a str),
}

impl fmt::Display for PathSubject<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_with_dots_and_places_from_one() {
        let at = ManifestPath::default()
            .key("routes")
            .index(0)
            .key("methods")
            .index(1);
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
