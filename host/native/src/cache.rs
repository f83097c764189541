//! The cache of native code: made once on a machine from the verified component, by a niced and memory-limited
//! process of its own, and only ever loaded if its MAC is right.

use crate::{
    compiler::{Compiler, fault},
    sweep::{NATIVE_BYTES_MAX, sweep, touch},
};
use anyhow::Context;
use hmac::{Hmac, Mac};
use protoplex_disk::PRIVATE_DIR;
use protoplex_handler::{BuildFault, native_file_name};
use protoplex_wire::Digest;
use sha2::Sha256;
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::sync::Semaphore;

const MAGIC: &[u8; 8] = b"PPNATIV1";
const MAC_BYTES: usize = 32;

/// The cache, shared by the nodes and the Seed of one machine and user.
pub struct NativeCache {
    dir: PathBuf,
    bytes_max: u64,
    key: Vec<u8>,
    compiling: Semaphore,
    compiler: Compiler,
}

impl NativeCache {
    /// Opens the cache, or makes it, for this user alone. The cache keeps `bytes_max` of code, or where that is 0,
    /// [`NATIVE_BYTES_MAX`].
    ///
    /// # Errors
    /// The folder or its key cannot be used.
    pub fn open(dir: &Path, bytes_max: u64) -> anyhow::Result<Self> {
        let open = || -> std::io::Result<Vec<u8>> {
            protoplex_disk::create_dir_all(dir, PRIVATE_DIR)?;
            fs::set_permissions(dir, Permissions::from_mode(0o700))?;
            let _one_at_a_time = lock(&dir.join("cache.lock"))?;
            read_or_make_key(&dir.join("cache.key"))
        };
        let key =
            open().with_context(|| format!("the native cache {} cannot be used", dir.display()))?;
        let bytes_max = match bytes_max {
            0 => NATIVE_BYTES_MAX,
            bytes_max => bytes_max,
        };
        sweep(dir, bytes_max);
        let parallel = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            dir: dir.to_owned(),
            bytes_max,
            key,
            compiling: Semaphore::new((parallel / 2).max(1)),
            compiler: Compiler::default(),
        })
    }

    /// Loads the native code of a verified component. Compiles the component where that has not been done.
    ///
    /// # Errors
    /// Stage `compile` or `link`.
    pub async fn load(&self, component: &Digest, wasm: &Path) -> Result<Vec<u8>, BuildFault> {
        match self.read(component) {
            Some(payload) => Ok(payload),
            None => self.compile(component, wasm).await,
        }
    }

    fn path(&self, component: &Digest) -> PathBuf {
        self.dir.join(native_file_name(component))
    }

    fn mac(&self, component: &Digest, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any key length will do");
        mac.update(component.as_bytes());
        mac.update(payload);
        mac
    }

    /// Reads a cached file whose MAC is right. A file with a wrong one is removed: the component is there to make it
    /// again.
    fn read(&self, component: &Digest) -> Option<Vec<u8>> {
        let path = self.path(component);
        let mut bytes = fs::read(&path).ok()?;
        let head = MAGIC.len() + MAC_BYTES;
        let right = bytes.len() > head
            && bytes.starts_with(MAGIC)
            && self
                .mac(component, &bytes[head..])
                .verify_slice(&bytes[MAGIC.len()..head])
                .is_ok();
        if right {
            touch(&path);
            return Some(bytes.split_off(head));
        }
        tracing::warn!(file = %path.display(), "native code in the cache has a wrong MAC; its component is compiled again");
        let _ = fs::remove_file(&path);
        None
    }

    async fn compile(&self, component: &Digest, wasm: &Path) -> Result<Vec<u8>, BuildFault> {
        let _permit = self
            .compiling
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let path = self.path(component);
        let lock_path = path.with_extension("lock");
        let locked = tokio::task::spawn_blocking(move || lock(&lock_path)).await;
        let _file_lock = locked
            .map_err(|error| fault(error.to_string()))?
            .map_err(|error| fault(error.to_string()))?;
        if let Some(payload) = self.read(component) {
            return Ok(payload); // Another process was faster.
        }
        let started = std::time::Instant::now();
        let output =
            tempfile::NamedTempFile::new_in(&self.dir).map_err(|error| fault(error.to_string()))?;
        self.compiler.run(wasm, output.path()).await?;
        let payload = fs::read(output.path()).map_err(|error| fault(error.to_string()))?;
        self.write(component, &payload)
            .map_err(|error| fault(format!("{} cannot be written: {error}", path.display())))?;
        let (dir, bytes_max) = (self.dir.clone(), self.bytes_max);
        // Nobody waits for it.
        drop(tokio::task::spawn_blocking(move || {
            sweep(&dir, bytes_max);
        }));
        tracing::info!(
            component = component.short(),
            took_ms = started.elapsed().as_millis(),
            "a component was compiled to native code"
        );
        Ok(payload)
    }

    fn write(&self, component: &Digest, payload: &[u8]) -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(MAGIC)?;
        file.write_all(&self.mac(component, payload).finalize().into_bytes())?;
        file.write_all(payload)?;
        protoplex_disk::put(file, &self.path(component))
    }
}

/// Locks a file until the returned handle is dropped.
fn lock(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.lock()?;
    Ok(file)
}

fn read_or_make_key(path: &Path) -> std::io::Result<Vec<u8>> {
    if let Ok(key) = fs::read(path)
        && key.len() == MAC_BYTES
    {
        return Ok(key);
    }
    let mut key = vec![0; MAC_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    // One of another length is none: code under it is compiled again.
    protoplex_disk::write_whole(path, &key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_code_that_was_tampered_with_is_removed_and_not_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let cache = NativeCache::open(dir.path(), 0).unwrap();
        let (component, other) = (Digest::of(b"component"), Digest::of(b"other"));
        cache.write(&component, b"payload").unwrap();
        assert_eq!(cache.read(&component).unwrap(), b"payload");
        // Code of another component under this one's name.
        fs::copy(cache.path(&component), cache.path(&other)).unwrap();
        assert_eq!(cache.read(&other), None);
        let mut bytes = fs::read(cache.path(&component)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(cache.path(&component), &bytes).unwrap();
        assert_eq!(cache.read(&component), None);
        assert!(!cache.path(&component).exists());
        fs::write(cache.path(&component), b"PPNATIV1").unwrap();
        assert_eq!(cache.read(&component), None);
    }
}
