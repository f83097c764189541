//! Blobs by digest: `blobs/<2 hex>/<digest>`. Verified when they come in and when they go out.

use super::{StoreError, at, retention::PUSH_TIME_MAX};
use parking_lot::Mutex;
use protoplex_disk::{SHARED_DIR, create_dir_all};
use protoplex_wire::Digest;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fs::{self, DirEntry, File, Metadata},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tempfile::NamedTempFile;

/// Most bytes of a blob: as many as the largest asset that a manifest may have.
pub const BLOB_BYTES_MAX: u64 = 256 << 20;
/// Age below which a file is verified again next time, since two changes may bear the same time.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Why a blob cannot be had, or not be taken.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The blob never came.
    #[error("there is no blob {0}")]
    Absent(Digest),
    /// The bytes on disk do not have the digest of the file's name.
    #[error("blob {0} is damaged on the Seed's disk; push the build again")]
    Damaged(Digest),
    /// The bytes that came do not have the digest that was announced.
    #[error("the bytes are blob {found}, not {expected}; nothing was kept")]
    OtherContent {
        /// Digest that was announced.
        expected: Digest,
        /// Digest of what came.
        found: Digest,
    },
    /// The blob has so many bytes, more than it may.
    #[error("a blob has at most {0} bytes")]
    TooLarge(u64),
    /// The disk refused to read or write.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Identity of a verified file: while it stays the same, so do the bytes.
type FileStamp = (u64, u64, i64, i64);

/// Store of all blobs.
#[derive(Clone)]
pub struct Blobs {
    dir: PathBuf,
    verified: Arc<Mutex<HashMap<Digest, FileStamp>>>,
    /// Blobs of which pushes that may be under way were told that they are here, and when.
    asked: Arc<Mutex<HashMap<Digest, Instant>>>,
}

impl Blobs {
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let incoming = dir.join("incoming");
        // What a killed Seed left half-written.
        if let Err(error) = fs::remove_dir_all(&incoming)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(at(&incoming)(error));
        }
        create_dir_all(&incoming, SHARED_DIR).map_err(at(&incoming))?;
        Ok(Self {
            dir: dir.to_owned(),
            verified: Arc::default(),
            asked: Arc::default(),
        })
    }

    /// Path where a blob is, or would be.
    pub fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.dir.join(&name[..2]).join(name)
    }

    /// Returns which of `digests` are absent or damaged. The others stay for as long as a push takes.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn missing(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, BlobError> {
        let mut missing = Vec::new();
        for digest in digests {
            // First, so that it is not removed in between.
            self.asked.lock().insert(digest, Instant::now());
            if self.size(digest)?.is_none() {
                missing.push(digest);
            }
        }
        Ok(missing)
    }

    /// Notes that an accepted build holds these blobs from now on.
    pub(super) fn are_held(&self, digests: impl Iterator<Item = Digest>) {
        let mut asked = self.asked.lock();
        for digest in digests {
            asked.remove(&digest);
        }
        asked.retain(|_, at| at.elapsed() < PUSH_TIME_MAX);
    }

    pub(super) fn was_asked_for(&self, digest: &Digest) -> bool {
        let asked = self.asked.lock();
        asked
            .get(digest)
            .is_some_and(|at| at.elapsed() < PUSH_TIME_MAX)
    }

    /// Visits all blobs, and what else is named like one.
    pub(super) fn each(
        &self,
        mut visit: impl FnMut(Digest, &DirEntry) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        for folder in fs::read_dir(&self.dir).map_err(at(&self.dir))?.flatten() {
            for entry in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let digest = name.to_str().and_then(|name| name.parse().ok());
                if let Some(digest) = digest {
                    visit(digest, &entry).map_err(at(&entry.path()))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn remove(&self, digest: Digest, path: &Path) -> io::Result<()> {
        self.verified.lock().remove(&digest);
        fs::remove_file(path)
    }

    /// Size of a blob whose bytes are right; `None` when it is absent or damaged.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn size(&self, digest: Digest) -> Result<Option<u64>, BlobError> {
        match self.file(digest) {
            Ok((_, bytes)) => Ok(Some(bytes)),
            Err(BlobError::Absent(_) | BlobError::Damaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a blob at its start after verifying it. Returns the file and its size.
    ///
    /// # Errors
    /// Absent, damaged, or the disk refuses.
    pub fn file(&self, digest: Digest) -> Result<(File, u64), BlobError> {
        let path = self.path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BlobError::Absent(digest));
            }
            Err(error) => return Err(at(&path)(error).into()),
        };
        let metadata = file.metadata().map_err(at(&path))?;
        let stamp = stamp(&metadata);
        if self.verified.lock().get(&digest) == Some(&stamp) {
            return Ok((file, metadata.len()));
        }
        if digest_of(&mut file).map_err(at(&path))? != digest {
            tracing::error!(%digest, path = %path.display(), "a blob on the Seed's disk is damaged; push its build again");
            return Err(BlobError::Damaged(digest));
        }
        if settled(&metadata) {
            self.verified.lock().insert(digest, stamp);
        }
        file.rewind().map_err(at(&path))?;
        Ok((file, metadata.len()))
    }

    /// Reads a small blob as a whole.
    ///
    /// # Errors
    /// As for [`Self::file`], or it has more than `bytes_max`.
    pub fn read(&self, digest: Digest, bytes_max: u64) -> Result<Vec<u8>, BlobError> {
        let (file, bytes) = self.file(digest)?;
        if bytes > bytes_max {
            return Err(BlobError::TooLarge(bytes_max));
        }
        let mut content = Vec::new();
        file.take(bytes_max)
            .read_to_end(&mut content)
            .map_err(at(&self.path(digest)))?;
        Ok(content)
    }

    /// Starts to write a blob. Nobody sees anything of it before [`BlobWriter::finish`].
    ///
    /// # Errors
    /// The disk refuses.
    pub fn writer(&self, digest: Digest, bytes_max: u64) -> Result<BlobWriter, BlobError> {
        let incoming = self.dir.join("incoming");
        Ok(BlobWriter {
            path: self.path(digest),
            digest,
            file: NamedTempFile::new_in(&incoming).map_err(at(&incoming))?,
            hasher: Sha256::new(),
            room_bytes: bytes_max,
            bytes_max,
        })
    }
}

/// A blob that is coming in. Dropped, it leaves nothing behind.
pub struct BlobWriter {
    path: PathBuf,
    digest: Digest,
    file: NamedTempFile,
    hasher: Sha256,
    room_bytes: u64,
    bytes_max: u64,
}

impl BlobWriter {
    /// Writes some bytes.
    ///
    /// # Errors
    /// Too many, or the disk refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let left = self.room_bytes.checked_sub(bytes.len() as u64);
        self.room_bytes = left.ok_or(BlobError::TooLarge(self.bytes_max))?;
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(at(&self.path))?;
        Ok(())
    }

    /// Verifies the bytes, and puts the blob in its place, on disk.
    ///
    /// # Errors
    /// The bytes are others than announced, or the disk refuses; then nothing changed.
    pub fn finish(self) -> Result<(), BlobError> {
        let found = Digest::from_bytes(self.hasher.finalize().into());
        if found != self.digest {
            let expected = self.digest;
            return Err(BlobError::OtherContent { expected, found });
        }
        let path = &self.path;
        let dir = path.parent().unwrap_or(path);
        create_dir_all(dir, SHARED_DIR).map_err(at(dir))?;
        protoplex_disk::put(self.file, path).map_err(at(path))?;
        Ok(())
    }
}

fn digest_of(file: &mut File) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn stamp(metadata: &Metadata) -> FileStamp {
    (
        metadata.ino(),
        metadata.len(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

fn settled(metadata: &Metadata) -> bool {
    let changed = u64::try_from(metadata.ctime()).unwrap_or(0);
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(changed);
    changed.elapsed().is_ok_and(|age| age > SETTLED_AFTER)
}
