//! Retention in the cache of native code. All of it can be made again from components, so what counts is use: code that
//! nobody loaded for long goes, and above a limit in bytes the oldest.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Default size of the cache in bytes: native code of some hundred handlers; a large JavaScript one takes 60 MB.
pub const NATIVE_BYTES_MAX: u64 = 4 << 30;
/// Age at which unused code is removed. Code that no process loaded for a month is of a version of the host, or of a
/// handler, that is gone.
const UNUSED_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Time for which used code stays, whatever the limit: the limit is for the disk, and a node that compiles everything
/// again with each build serves nobody.
const RECENT: Duration = Duration::from_secs(3_600);
/// Age at which a temporary file, or a lock without code, counts as left behind by a crash.
const LEFTOVER_AFTER: Duration = Duration::from_secs(3_600);

const CODE: &str = "native";
const LOCK: &str = "lock";
/// Name of the file that locks the whole folder.
const FOLDER_LOCK: &str = "cache.lock";

struct CachedFile {
    path: PathBuf,
    age: Duration,
    bytes: u64,
}

/// Marks code as in use.
pub(super) fn touch(path: &Path) {
    // A cache that can only be read is used all the same.
    let _ = fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Removes what is not kept. What cannot be removed stays for the next time.
pub(super) fn sweep(dir: &Path, bytes_max: u64) {
    let Ok(mut entries) = entries(dir) else {
        return;
    };
    entries.sort_by_key(|entry| entry.age);
    let (mut removed, mut bytes, mut kept) = (0_u64, 0_u64, HashSet::<OsString>::new());
    for entry in entries.iter().filter(|entry| has_ending(&entry.path, CODE)) {
        let fits = bytes + entry.bytes <= bytes_max || entry.age < RECENT;
        if fits && entry.age < UNUSED_MAX {
            bytes += entry.bytes;
            kept.extend(entry.path.file_stem().map(OsString::from));
        } else if fs::remove_file(&entry.path).is_ok() {
            removed += entry.bytes;
        }
    }
    for entry in entries {
        let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
        let is_lock = has_ending(&entry.path, LOCK) && name != FOLDER_LOCK;
        let is_orphan = is_lock
            && entry
                .path
                .file_stem()
                .is_some_and(|stem| !kept.contains(stem));
        if (is_orphan || name.starts_with(".tmp")) && entry.age > LEFTOVER_AFTER {
            // Two that compile at once, because one of them held the old lock, write the same.
            let _ = fs::remove_file(&entry.path);
        }
    }
    if removed > 0 {
        tracing::info!(
            bytes = removed,
            kept_bytes = bytes,
            "native code that was not used was removed from the cache"
        );
    }
}

fn entries(dir: &Path) -> io::Result<Vec<CachedFile>> {
    let now = SystemTime::now();
    let entry = |entry: fs::DirEntry| {
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(CachedFile {
            path: entry.path(),
            age: now
                .duration_since(metadata.modified().ok()?)
                .unwrap_or_default(),
            bytes: metadata.len(),
        })
    };
    Ok(fs::read_dir(dir)?.flatten().filter_map(entry).collect())
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, bytes: usize, age: Duration) {
        fs::write(dir.join(name), vec![0; bytes]).unwrap();
        let file = fs::File::open(dir.join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn code_that_is_used_stays_and_the_oldest_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        file(dir, "a.native", 40, hours(0));
        file(dir, "b.native", 40, hours(2));
        file(dir, "c.native", 40, hours(3));
        file(dir, "d.native", 1, hours(31 * 24));
        for lock in ["a.lock", "d.lock", "cache.lock"] {
            file(dir, lock, 0, hours(40));
        }
        file(dir, "cache.key", 32, hours(40 * 24));
        file(dir, ".tmpyoung", 1, hours(0));
        file(dir, ".tmpold", 1, hours(2));
        sweep(dir, 100);
        let mut left: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        let expected = [
            ".tmpyoung",
            "a.lock",
            "a.native",
            "b.native",
            "cache.key",
            "cache.lock",
        ];
        assert_eq!(left, expected);
        touch(&dir.join("b.native"));
        // All of it is in use.
        sweep(dir, 1);
        assert!(dir.join("a.native").exists() && dir.join("b.native").exists());
    }
}
