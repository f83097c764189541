//! State on the Seed's disk: blobs by digest, accepted builds, the fence and the history.
//!
//! One Seed at a time: the directory is locked while it is open. What is written is on the disk (fsync, rename,
//! fsync of the directory) when a function returns. All functions block.

use crate::core::Durable;
use parking_lot::Mutex;
use protoplex_disk::{SHARED_DIR, create_dir_all};
use protoplex_wire::{BuildId, Digest, directory::Directory, signature::Envelope};
use rustix::fs::{FlockOperation, flock};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};
use tokio::sync::Notify;

mod blobs;
mod retention;
#[cfg(test)]
mod tests;

pub use blobs::{BLOB_BYTES_MAX, BlobError, BlobWriter, Blobs};
pub use retention::{CollectMode, NeededBuilds, Retention};

/// Name of the file that reserves room for the fence and the history: a fleet whose Seed has a full disk can still be
/// rolled back.
const RESERVE_FILE: &str = "reserve";
/// Bytes of that reserve: a hundred releases of a fleet of a hundred nodes take one megabyte.
const RESERVE_BYTES: u64 = 4 << 20;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Two Seeds on one directory would each hand out the same release numbers.
    #[error(
        "{0} is in use by another Seed; stop that one first, or give this one a directory of its own"
    )]
    InUse(PathBuf),
    /// A file is not as it was written.
    #[error(
        "{path} is damaged: {reason}. Move it away to start without it, or restore it from a copy, even an older one: nodes keep what they run, and a Seed that they are ahead of orders nothing until `protoplex adopt`, `push` or `rollback` decides"
    )]
    Corrupt {
        /// Path of the file.
        path: PathBuf,
        /// Damage that was found.
        reason: String,
    },
    /// The disk refused to read or write.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether there is no room on the disk.
    pub(crate) fn is_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

/// The Seed's folder.
pub struct SeedStore {
    dir: PathBuf,
    blobs: Blobs,
    /// Notified to ask for a collection: there is something to remove, or no room.
    collect: Notify,
    /// Held while a build is accepted, and while a collection looks for what no build needs.
    accepting: Mutex<()>,
    _lock: File,
}

impl SeedStore {
    /// Opens the Seed's folder, or makes it, and locks it until the store is dropped.
    ///
    /// # Errors
    /// Another Seed has it, or the disk refuses.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        create_dir_all(&dir.join("builds"), SHARED_DIR).map_err(at(dir))?;
        let path = dir.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = lock.map_err(at(&path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StoreError::InUse(dir.to_owned()))?;
        Ok(Self {
            dir: dir.to_owned(),
            blobs: Blobs::open(&dir.join("blobs"))?,
            collect: Notify::new(),
            accepting: Mutex::default(),
            _lock: lock,
        })
    }

    /// Asks for a collection soon.
    pub(crate) fn want_collection(&self) {
        self.collect.notify_one();
    }

    /// Returns when a collection was asked for.
    pub(crate) async fn collection_wanted(&self) {
        self.collect.notified().await;
    }

    /// Makes sure that there is room for one more [`Self::save_state`], whatever fills the disk.
    ///
    /// # Errors
    /// There is no such room; what there is stays free.
    pub fn reserve(&self) -> Result<(), StoreError> {
        let path = self.dir.join(RESERVE_FILE);
        if fs::metadata(&path).is_ok_and(|reserve| reserve.len() >= RESERVE_BYTES) {
            return Ok(());
        }
        let fill = vec![0xff; RESERVE_BYTES as usize];
        let written = fs::write(&path, fill);
        if written.is_err() {
            // Half of it is no use to a rollback.
            let _ = fs::remove_file(&path);
        }
        written.map_err(at(&path))
    }

    /// Store of blobs by digest.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Loads the fence and the history; makes new ones with a fresh hop key at the first start.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] rather than starting over: numbers that were handed out must not come twice.
    pub fn load_state(&self) -> Result<Durable, StoreError> {
        let path = self.dir.join("state.json");
        let Some(state) = read_json::<Durable>(&path)? else {
            let mut key = [0; 32];
            let no_random = |e: getrandom::Error| at(&path)(io::Error::other(e.to_string()));
            getrandom::fill(&mut key).map_err(no_random)?;
            let state = Durable::new(hex::encode(key));
            self.save_state(&state)?;
            return Ok(state);
        };
        match state_fault(&state) {
            Some(reason) => Err(StoreError::Corrupt { path, reason }),
            None => Ok(state),
        }
    }

    /// Writes the fence and the history.
    ///
    /// # Errors
    /// The disk refuses, also where what is reserved for that is given up; then the file is as it was before.
    pub fn save_state(&self, state: &Durable) -> Result<(), StoreError> {
        let path = self.dir.join("state.json");
        match write_json(&path, state) {
            Err(error) if error.is_full() => {
                tracing::error!(%error, "the Seed's disk is full, and its state is written to the reserve; free the disk");
                self.want_collection();
                let reserve = self.dir.join(RESERVE_FILE);
                fs::remove_file(&reserve).map_err(|_| error)?;
                write_json(&path, state)
            }
            written => written,
        }
    }

    /// Loads the directory of when the Seed stopped. A convenience: a damaged file counts as none.
    pub fn load_known(&self) -> Directory {
        let path = self.dir.join("directory.json");
        match read_json(&path) {
            Ok(known) => known.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "the directory of before the restart cannot be read; the Seed starts without it");
                Directory::default()
            }
        }
    }

    /// Writes down who is in the directory.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save_known(&self, known: &Directory) -> Result<(), StoreError> {
        write_json(&self.dir.join("directory.json"), known)
    }

    /// Accepts a build that is made of these blobs: from now on it may be released, and is what keeps them.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn accept(
        &self,
        envelope: &Envelope,
        blobs: impl Iterator<Item = Digest>,
    ) -> Result<(), StoreError> {
        let _no_collection = self.accepting.lock();
        write_json(&self.build_path(envelope.build), envelope)?;
        self.blobs.are_held(blobs);
        Ok(())
    }

    /// Loads the envelope of an accepted build.
    ///
    /// # Errors
    /// The file is damaged or the disk refuses.
    pub fn load_build(&self, build: BuildId) -> Result<Option<Envelope>, StoreError> {
        read_json(&self.build_path(build))
    }

    fn build_path(&self, build: BuildId) -> PathBuf {
        self.dir.join("builds").join(format!("{build}.json"))
    }
}

fn state_fault(state: &Durable) -> Option<String> {
    if state.format != crate::core::FORMAT {
        return Some(format!(
            "format {} is not known to this version",
            state.format
        ));
    }
    if state.hop_key.len() != 64 || !state.hop_key.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some("the hop key is not 64 hexadecimal digits".to_owned());
    }
    let used = state.active.iter().map(|active| active.release);
    let mut used = used.chain(state.history.iter().map(|record| record.release));
    let above = used.find(|release| *release > state.last())?;
    Some(format!(
        "release {above} is above the fence {}",
        state.last()
    ))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let value = serde_json::from_slice(&bytes).map_err(|error| StoreError::Corrupt {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(Some(value))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec_pretty(value).expect("all keys are strings");
    protoplex_disk::write_whole(path, &bytes).map_err(at(path))
}
