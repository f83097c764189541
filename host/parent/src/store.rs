//! State that a node keeps on disk: blobs by digest, and which builds it holds. Written before it is said.

use anyhow::{Context, ensure};
use protoplex_disk::SHARED_DIR;
use protoplex_wire::{BuildId, Digest, Manifest, ReleaseId, signature::Envelope};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// Builds that a node holds on disk: the active one and two before it.
const HELD_MAX: usize = 3;

/// What a node must not forget, `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// The highest release that was ever taken: a lower one is refused for ever.
    pub release: ReleaseId,
    /// The build that was ordered under that number: another one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_build: Option<BuildId>,
    /// The build that answers.
    pub active: Option<BuildId>,
    /// Held builds, newest first, the active one first of all.
    pub held: Vec<Envelope>,
}

/// The folder of one node.
pub struct Store {
    dir: PathBuf,
    state: NodeState,
}

impl Store {
    /// Opens a node's folder, or makes it.
    ///
    /// # Errors
    /// When the folder cannot be used or `state.json` cannot be read; it says what to do.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        protoplex_disk::create_dir_all(&dir.join("blobs"), SHARED_DIR)
            .with_context(|| format!("{} cannot be made", dir.display()))?;
        let path = dir.join("state.json");
        let state = read_json(&path)?.transpose().with_context(|| {
            format!(
                "{path} is damaged, and only it says which releases are too old for this node. Restore it from a copy. \
                 Without one, look at `protoplex releases`, and move it away if the Seed's newest release is the one \
                 that this node has to run",
                path = path.display()
            )
        })?;
        let state = state.unwrap_or_default();
        Ok(Self {
            dir: dir.to_owned(),
            state,
        })
    }

    /// What is on disk.
    pub fn state(&self) -> &NodeState {
        &self.state
    }

    /// Takes a release: from now on, lower ones are refused, and other builds under this number.
    ///
    /// # Errors
    /// The disk refused.
    pub fn take(&mut self, release: ReleaseId, build: BuildId) -> anyhow::Result<()> {
        if release == self.state.release && self.state.release_build == Some(build) {
            return Ok(());
        }
        let state = NodeState {
            release,
            release_build: Some(build),
            ..self.state.clone()
        };
        self.write(state)
    }

    /// Makes a build the active one and forgets the oldest held one. On disk when it returns.
    ///
    /// # Errors
    /// The disk refused; nothing changed.
    pub fn activate(&mut self, release: ReleaseId, envelope: Envelope) -> anyhow::Result<()> {
        let mut state = self.state.clone();
        state.release = release;
        state.release_build = Some(envelope.build);
        state.active = Some(envelope.build);
        state.held.retain(|held| held.build != envelope.build);
        state.held.insert(0, envelope);
        state.held.truncate(HELD_MAX);
        self.write(state)
    }

    fn write(&mut self, state: NodeState) -> anyhow::Result<()> {
        write_json(&self.dir.join("state.json"), &state)?;
        self.state = state;
        Ok(())
    }

    /// Everything that held builds name, and their manifests; `None` where one of those cannot be read.
    pub fn used(&self) -> Option<HashSet<Digest>> {
        let mut used = HashSet::new();
        for envelope in &self.state.held {
            let manifest = read_blob(&self.dir, &envelope.build)?;
            let manifest = Manifest::parse(&manifest).ok()?;
            used.insert(envelope.build);
            used.extend(manifest.blobs().into_keys());
        }
        Some(used)
    }

    /// Deletes blobs that no held build names, and what a crash left half-written.
    pub fn sweep(&self, used: &HashSet<Digest>) {
        let folders = fs::read_dir(self.dir.join("blobs"))
            .into_iter()
            .flatten()
            .flatten();
        for file in folders
            .map(|folder| folder.path())
            .chain([self.dir.clone()])
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .flatten()
        {
            let name = file.file_name();
            let name = name.to_string_lossy();
            let digest = name.parse::<Digest>().ok();
            // Nothing is being fetched now: a node does one release at a time.
            let is_left_over = name.starts_with(".tmp");
            if is_left_over || digest.is_some_and(|digest| !used.contains(&digest)) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

/// The file of a blob in a node's folder.
pub fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    dir.join("blobs").join(&name[..2]).join(name)
}

/// Reads a blob, if it is there and is what its name says.
pub fn read_blob(dir: &Path, digest: &Digest) -> Option<Vec<u8>> {
    let bytes = fs::read(blob_path(dir, digest)).ok()?;
    if Digest::of(&bytes) == *digest {
        return Some(bytes);
    }
    tracing::error!(digest = %digest, "a blob on disk is not what its name says; it is refused");
    None
}

/// Keeps a blob that was verified.
///
/// # Errors
/// The bytes are others, or the disk refused.
pub fn write_blob(dir: &Path, digest: &Digest, bytes: &[u8]) -> anyhow::Result<()> {
    ensure!(
        Digest::of(bytes) == *digest,
        "the bytes are not blob {digest}"
    );
    write_file(&blob_path(dir, digest), bytes)
}

/// Reads a JSON file; `None` where there is none, and an inner error where it is damaged.
///
/// # Errors
/// The file cannot be read.
fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<serde_json::Result<T>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Reads a JSON file that can be made again. A damaged one is set aside, and counts as none.
///
/// # Errors
/// The file cannot be read, or not be moved.
pub(super) fn read_cache<T: DeserializeOwned + Default>(path: &Path) -> anyhow::Result<T> {
    match read_json(path)? {
        None => Ok(T::default()),
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => {
            let aside = protoplex_disk::set_aside(path)
                .with_context(|| format!("{} cannot be moved away", path.display()))?;
            tracing::error!(file = %path.display(), %error, aside = %aside.display(), "a damaged cache was set aside; it is made again");
            Ok(T::default())
        }
    }
}

/// Writes a JSON file as a whole.
///
/// # Errors
/// The disk refused.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    write_file(path, &serde_json::to_vec_pretty(value)?)
}

fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    protoplex_disk::create_dir_all(folder, SHARED_DIR)
        .and_then(|()| protoplex_disk::write_whole(path, bytes))
        .with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(name: &str) -> Envelope {
        Envelope {
            build: Digest::of(name.as_bytes()),
            key_id: String::new(),
            sig: String::new(),
        }
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let release = ReleaseId {
            epoch: 1,
            sequence: 2,
        };
        let mut store = Store::open(dir.path()).unwrap();
        for name in ["a", "b", "c", "d"] {
            store.activate(release, envelope(name)).unwrap();
        }
        let state = Store::open(dir.path()).unwrap().state().clone();
        assert_eq!(state.active, Some(envelope("d").build));
        assert_eq!(state.held, ["d", "c", "b"].map(envelope));
        assert_eq!(state.release, release);
    }

    #[test]
    fn a_blob_that_was_tampered_with_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"content");
        write_blob(dir.path(), &digest, b"content").unwrap();
        assert_eq!(read_blob(dir.path(), &digest).unwrap(), b"content");
        fs::write(blob_path(dir.path(), &digest), b"contenT").unwrap();
        assert_eq!(read_blob(dir.path(), &digest), None);
        assert!(write_blob(dir.path(), &digest, b"other").is_err());
    }

    #[test]
    fn what_a_crash_left_half_written_goes_and_what_is_used_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.activate(ReleaseId::default(), envelope("a")).unwrap();
        let (used, old) = (Digest::of(b"used"), Digest::of(b"old"));
        write_blob(dir.path(), &used, b"used").unwrap();
        write_blob(dir.path(), &old, b"old").unwrap();
        let beside = blob_path(dir.path(), &used).with_file_name(".tmpx");
        for leftover in [&dir.path().join(".tmpx"), &beside] {
            fs::write(leftover, b"half").unwrap();
        }
        store.sweep(&[used].into());
        assert!(!dir.path().join(".tmpx").exists() && !beside.exists());
        assert!(read_blob(dir.path(), &used).is_some());
        assert!(read_blob(dir.path(), &old).is_none());
        assert!(dir.path().join("state.json").exists());
    }

    #[test]
    fn a_damaged_state_is_refused_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        Store::open(dir.path())
            .unwrap()
            .take(
                ReleaseId {
                    epoch: 1,
                    sequence: 1,
                },
                Digest::of(b"a build"),
            )
            .unwrap();
        fs::write(dir.path().join("state.json"), b"{").unwrap();
        let error = Store::open(dir.path()).err().unwrap();
        assert!(format!("{error:#}").contains("is damaged"), "{error:#}");
    }
}
