//! Differences between two builds, for people.

use protoplex_wire::{
    Manifest,
    manifest::{Handler, Route},
};
use std::{collections::BTreeMap, fmt};

/// Most lines of one kind that are shown; more are counted.
const LINES_MAX: usize = 20;

/// Kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The thing is in the new build only.
    Added,
    /// The thing is in the old build only.
    Removed,
    /// The thing is in both builds, and differs.
    Changed,
}

/// One difference between two builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Kind of the difference.
    pub change: ChangeKind,
    /// Kind of the thing: `handler`, `route`, `asset`, `upstream` or `setting`.
    pub kind: &'static str,
    /// Name of the thing that differs.
    pub name: String,
    /// The difference itself, for handlers and settings.
    pub detail: String,
}

/// All differences, by kind, then by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff(pub Vec<Difference>);

/// Compares two builds.
pub fn diff(old: &Manifest, new: &Manifest) -> Diff {
    let mut found = Vec::new();
    compare(
        "handler",
        &old.handlers,
        &new.handlers,
        handler_detail,
        &mut found,
    );
    let detail = |old: &&Route, new: &&Route| format!("{} → {}", old.handler, new.handler);
    compare("route", &routes(old), &routes(new), detail, &mut found);
    compare(
        "asset",
        &old.assets,
        &new.assets,
        |_, _| String::new(),
        &mut found,
    );
    compare(
        "upstream",
        &old.upstreams,
        &new.upstreams,
        |_, _| String::new(),
        &mut found,
    );
    let detail =
        |old: &String, new: &String| format!("{} → {}", short_value(old), short_value(new));
    compare("setting", &old.settings, &new.settings, detail, &mut found);
    Diff(found)
}

fn compare<T: PartialEq>(
    kind: &'static str,
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    detail: impl Fn(&T, &T) -> String,
    found: &mut Vec<Difference>,
) {
    let mut add = |change, name: &String, detail| {
        found.push(Difference {
            change,
            kind,
            name: name.clone(),
            detail,
        });
    };
    for (name, before) in old {
        match new.get(name) {
            None => add(ChangeKind::Removed, name, String::new()),
            Some(after) if after != before => add(ChangeKind::Changed, name, detail(before, after)),
            Some(_) => {}
        }
    }
    for name in new.keys().filter(|name| !old.contains_key(*name)) {
        add(ChangeKind::Added, name, String::new());
    }
}

fn routes(manifest: &Manifest) -> BTreeMap<String, &Route> {
    let key = |route: &Route| {
        let methods = match route.methods.as_slice() {
            [] => "any".to_owned(),
            methods => methods.join(","),
        };
        let host = route.host.as_deref().unwrap_or("");
        format!("{} {methods} {host}{}", route.role, route.path)
    };
    manifest.routes.iter().map(|r| (key(r), r)).collect()
}

fn handler_detail(old: &Handler, new: &Handler) -> String {
    let mut parts = Vec::new();
    if old.component != new.component {
        let (old, new) = (old.component.short(), new.component.short());
        parts.push(format!("component {old} → {new}"));
    }
    for (name, same) in [
        ("world", old.world == new.world),
        ("isolation", old.isolation == new.isolation),
        ("limits", old.limits == new.limits),
        ("grants", old.grants == new.grants),
        ("environment", old.environment == new.environment),
        ("tenant", old.tenant == new.tenant),
        ("probe", old.probe == new.probe),
    ] {
        if !same {
            parts.push(name.to_owned());
        }
    }
    parts.join(", ")
}

/// A setting's value, short enough for a line.
fn short_value(value: &str) -> String {
    let mut short: String = value.chars().take(40).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    format!("{short:?}")
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("  (no difference)");
        }
        let mut counts = BTreeMap::<&str, usize>::new();
        let mut first = true;
        for difference in &self.0 {
            let count = counts.entry(difference.kind).or_default();
            *count += 1;
            if *count > LINES_MAX {
                continue;
            }
            if !std::mem::take(&mut first) {
                f.write_str("\n")?;
            }
            write!(f, "  {difference}")?;
        }
        for (kind, count) in counts.into_iter().filter(|(_, count)| *count > LINES_MAX) {
            write!(f, "\n  … and {} more of kind {kind}", count - LINES_MAX)?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.change {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Changed => '~',
        };
        write!(f, "{sign} {} {}", self.kind, self.name)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
