//! The log files of the processes: they write by themselves, `up` only keeps the files small.
//!
//! A process looks every second whether its file was moved away, and begins another. Writing through `up` instead would
//! let a stuck `up` stop the fleet.

use anyhow::{Context as _, Result};
use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    time::Duration,
};

/// Size in bytes above which a file is rotated; one older file is kept.
pub const LOG_BYTES_MAX: u64 = 16 << 20;
/// Time between two looks at sizes: at 100 MB/s of log a file stays below 1 GiB.
pub const ROTATE_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of a log that an error message quotes.
const TAIL_BYTES: u64 = 2_000;
const TAIL_LINES: usize = 5;

/// Opens a log file to append to.
///
/// # Errors
/// When the disk refuses.
pub fn open(path: &Path) -> Result<File> {
    let file = protoplex_disk::append_to(path);
    file.with_context(|| format!("opening the log {}", path.display()))
}

/// Rotates the file if it is too large.
pub fn rotate(path: &Path) {
    let large = fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX);
    if large && let Err(error) = fs::rename(path, path.with_extension("log.1")) {
        tracing::warn!(log = %path.display(), %error, "a log file could not be rotated");
    }
}

/// Reads the last lines of a log, for an error message.
pub fn tail(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES)))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        io::Result::Ok(String::from_utf8_lossy(&content).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(it cannot be read: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_log_is_moved_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.log");
        let writer = open(&path).expect("opened");
        rotate(&path);
        assert!(path.exists(), "it is small");
        writer.set_len(LOG_BYTES_MAX + 1).expect("grown");
        rotate(&path);
        assert!(!path.exists());
        let kept = fs::metadata(folder.path().join("x.log.1")).expect("kept");
        assert_eq!(kept.len(), LOG_BYTES_MAX + 1);
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.log");
        fs::write(&path, "1\n2\n3\n4\n5\n6\n7\n").expect("written");
        assert_eq!(tail(&path), "3\n4\n5\n6\n7");
    }
}
