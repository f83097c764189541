//! Retention on the Seed's disk: what releases need, then what is young, then what there is room for. Everything else
//! is removed, the oldest first. All functions block.

use super::{SeedStore, StoreError, at};
use protoplex_wire::{
    BuildId, Digest, Manifest,
    manifest::MANIFEST_BYTES_MAX,
    status::{GcReport, KeptTotals},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirEntry},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

/// Time for which a blob that is of no build is kept after it was written, or asked for: it may belong to a push that
/// is under way.
pub(super) const PUSH_TIME_MAX: Duration = Duration::from_secs(3_600);
/// Age at which a temporary file that nobody has written to counts as left behind by a crash.
const LEFTOVER_AFTER: Duration = Duration::from_secs(3_600);

/// Limits on what is kept beside what releases need: the active build, the one a rollback goes to, one that is being
/// released, and what nodes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Most builds that are kept: those of the newest releases, and after them the newest others. `rollback BUILD` may
    /// go to these.
    pub builds_max: usize,
    /// Hours for which builds that were pushed and not released are kept, however many they are.
    pub unreleased_hours_max: u64,
    /// Most bytes of builds; above it the oldest builds go first. 0 is no limit but the disk's.
    pub bytes_max: u64,
}

impl Default for Retention {
    /// Keeps a fortnight of a team that releases daily; a night between a push and its release; and what a small disk
    /// has.
    fn default() -> Self {
        Self {
            builds_max: 20,
            unreleased_hours_max: 24,
            bytes_max: 20 << 30,
        }
    }
}

/// Builds that the control plane knows of.
#[derive(Clone, Debug, Default)]
pub struct NeededBuilds {
    /// Builds that are never removed.
    pub always: HashSet<BuildId>,
    /// Builds of the history, newest first, each once.
    pub released: Vec<BuildId>,
}

/// Mode of a collection: its effect on what is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectMode {
    /// What is not kept is removed.
    Remove,
    /// What is not kept is only counted.
    DryRun,
}

/// An accepted build, and the blobs that it needs.
struct StoredBuild {
    build: BuildId,
    age: Duration,
    blobs: HashMap<Digest, u64>,
}

impl SeedStore {
    /// Removes what is not kept, or counts it.
    ///
    /// # Errors
    /// The disk refuses. A build whose manifest cannot be read keeps all blobs where they are.
    pub fn collect(
        &self,
        needed: &NeededBuilds,
        rules: &Retention,
        mode: CollectMode,
    ) -> Result<GcReport, StoreError> {
        // A build that is accepted meanwhile would not be seen, and its blobs would be nobody's.
        let _no_new_build = self.accepting.lock();
        let now = SystemTime::now();
        let held = self.held(now)?;
        let kept = keep(&held, needed, rules);
        let mut report = GcReport {
            kept: KeptTotals {
                builds: kept.len() as u64,
                ..KeptTotals::default()
            },
            ..GcReport::default()
        };
        for build in held.iter().map(|held| held.build) {
            if kept.contains(&build) {
                continue;
            }
            report.builds.push(build);
            if mode == CollectMode::Remove {
                remove(&self.build_path(build))?;
            }
        }
        let (mut used, mut freed) = (HashSet::new(), HashSet::new());
        for held in &held {
            let of = match kept.contains(&held.build) {
                true => &mut used,
                false => &mut freed,
            };
            of.extend(held.blobs.keys().copied());
        }
        // What an unreadable manifest names is not known.
        let is_known = held.iter().all(|held| !held.blobs.is_empty());
        self.blobs.each(|digest, entry| {
            let (age, bytes) = age_and_bytes(entry, now)?;
            let may_be_coming = age < PUSH_TIME_MAX && !freed.contains(&digest);
            let is_kept = !is_known
                || used.contains(&digest)
                || may_be_coming
                || self.blobs.was_asked_for(&digest);
            if is_kept {
                report.kept.blobs += 1;
                report.kept.bytes += bytes;
                return Ok(());
            }
            report.blobs += 1;
            report.bytes += bytes;
            match mode {
                CollectMode::Remove => self.blobs.remove(digest, &entry.path()),
                CollectMode::DryRun => Ok(()),
            }
        })?;
        if mode == CollectMode::Remove {
            for folder in [
                self.dir.clone(),
                self.dir.join("builds"),
                self.dir.join("blobs/incoming"),
            ] {
                remove_leftovers(&folder, now);
            }
        }
        Ok(report)
    }

    /// Reads all accepted builds.
    fn held(&self, now: SystemTime) -> Result<Vec<StoredBuild>, StoreError> {
        let folder = self.dir.join("builds");
        let mut held = Vec::new();
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let entry = entry.map_err(at(&folder))?;
            let name = entry.file_name();
            let build = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let Some(build) = build.and_then(|build| build.parse::<BuildId>().ok()) else {
                continue;
            };
            let (age, _) = age_and_bytes(&entry, now).map_err(at(&entry.path()))?;
            held.push(StoredBuild {
                build,
                age,
                blobs: self.blobs_of(build),
            });
        }
        Ok(held)
    }

    /// Digests and sizes of a build's manifest and of all blobs that it names. Empty where the manifest cannot be
    /// read.
    fn blobs_of(&self, build: BuildId) -> HashMap<Digest, u64> {
        let manifest = self.blobs.read(build, MANIFEST_BYTES_MAX as u64);
        let parsed = manifest.ok().and_then(|text| {
            let parsed = Manifest::parse(&text).ok()?;
            Some((text.len() as u64, parsed))
        });
        let Some((bytes, manifest)) = parsed else {
            tracing::warn!(%build, "the manifest of an accepted build cannot be read, so no blob is removed");
            return HashMap::new();
        };
        manifest
            .blobs()
            .into_iter()
            .chain([(build, bytes)])
            .collect()
    }
}

/// Chooses the builds that stay.
fn keep(held: &[StoredBuild], needed: &NeededBuilds, rules: &Retention) -> HashSet<BuildId> {
    let unreleased_max = Duration::from_secs(rules.unreleased_hours_max.saturating_mul(3_600));
    let released: HashSet<&BuildId> = needed.released.iter().collect();
    let is_waiting =
        |held: &&StoredBuild| !released.contains(&held.build) && held.age < unreleased_max;
    let mut kept: HashSet<BuildId> = held
        .iter()
        .filter(|held| needed.always.contains(&held.build))
        .chain(held.iter().filter(is_waiting))
        .map(|held| held.build)
        .collect();
    let by_id: HashMap<BuildId, &StoredBuild> =
        held.iter().map(|held| (held.build, held)).collect();
    let mut sizes: HashMap<Digest, u64> = HashMap::new();
    kept.iter()
        .for_each(|build| sizes.extend(&by_id[build].blobs));
    // Those that the history does not name come last: where it was lost, the newest of them are all there is.
    let mut others: Vec<&StoredBuild> = held
        .iter()
        .filter(|held| !released.contains(&held.build))
        .collect();
    others.sort_by_key(|held| held.age);
    let newest = needed
        .released
        .iter()
        .filter_map(|build| by_id.get(build).copied());
    for held in newest.chain(others).take(rules.builds_max) {
        let mut with = sizes.clone();
        with.extend(&held.blobs);
        let bytes: u64 = with.values().sum();
        if rules.bytes_max != 0 && bytes > rules.bytes_max && !kept.contains(&held.build) {
            break;
        }
        kept.insert(held.build);
        sizes = with;
    }
    kept
}

fn age_and_bytes(entry: &DirEntry, now: SystemTime) -> io::Result<(Duration, u64)> {
    let metadata = entry.metadata()?;
    // A clock that went back makes everything young.
    let age = now.duration_since(metadata.modified()?).unwrap_or_default();
    Ok((age, metadata.len()))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// Removes the temporary files that crashes left in a folder. What cannot be removed stays for the next time.
fn remove_leftovers(folder: &Path, now: SystemTime) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_temporary = entry.file_name().to_string_lossy().starts_with(".tmp");
        let is_old = age_and_bytes(&entry, now).is_ok_and(|(age, _)| age > LEFTOVER_AFTER);
        if is_temporary && is_old {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn held(name: &str, hours: u64, mib: u64) -> StoredBuild {
        let build = Digest::of(name.as_bytes());
        let own = Digest::of(format!("content of {name}").as_bytes());
        StoredBuild {
            build,
            age: Duration::from_secs(hours * 3_600),
            blobs: [(build, 0), (own, mib * MIB), (Digest::of(b"shared"), MIB)].into(),
        }
    }

    fn ids(names: &[&str]) -> Vec<BuildId> {
        let ids = names.iter().map(|name| Digest::of(name.as_bytes()));
        ids.collect()
    }

    #[track_caller]
    fn kept(
        held: &[StoredBuild],
        always: &[&str],
        released: &[&str],
        rules: Retention,
        names: &[&str],
    ) {
        let needed = NeededBuilds {
            always: ids(always).into_iter().collect(),
            released: ids(released),
        };
        let found = keep(held, &needed, &rules);
        assert_eq!(found, ids(names).into_iter().collect());
    }

    #[test]
    fn what_releases_need_stays_and_then_the_newest() {
        let all = ["a", "b", "c", "d", "e"].map(|name| held(name, 90, 1));
        let rules = Retention {
            builds_max: 2,
            ..Retention::default()
        };
        let released = ["e", "d", "c", "b", "a"];
        kept(&all, &["a"], &released, rules, &["a", "e", "d"]);
        let none = Retention {
            builds_max: 0,
            ..rules
        };
        kept(&all, &["a", "c"], &released, none, &["a", "c"]);
    }

    #[test]
    fn what_was_pushed_and_not_released_has_a_day() {
        let all = [held("young", 23, 1), held("old", 25, 1)];
        let none = Retention {
            builds_max: 0,
            ..Retention::default()
        };
        kept(&all, &[], &[], none, &["young"]);
        // A Seed that has lost its history still has builds.
        kept(&all, &[], &[], Retention::default(), &["young", "old"]);
    }

    #[test]
    fn above_the_byte_limit_the_oldest_go_and_never_what_is_needed() {
        let all = ["a", "b", "c", "d"].map(|name| held(name, 90, 10));
        let rules = Retention {
            bytes_max: 31 * MIB,
            ..Retention::default()
        };
        let released = ["d", "c", "b", "a"];
        kept(&all, &[], &released, rules, &["d", "c", "b"]);
        kept(&all, &["a"], &released, rules, &["a", "d", "c"]);
        let tiny = Retention {
            bytes_max: 1,
            ..rules
        };
        kept(&all, &["a", "b"], &released, tiny, &["a", "b"]);
    }
}
