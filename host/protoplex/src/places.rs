//! Where this user's files are, by the XDG base directories. The only reader of those variables.

use anyhow::{Context as _, Result};
use std::{
    env, fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// The user's folders.
#[derive(Clone, Debug)]
pub struct Places {
    /// Of running processes; emptied by the system when the user leaves, where it has such a place.
    pub running: PathBuf,
    /// Of things to keep.
    pub state: PathBuf,
    /// Of things that can be made again.
    pub cache: PathBuf,
}

impl Places {
    /// From the environment.
    ///
    /// # Errors
    /// When neither the XDG variables nor `HOME` are there.
    pub fn from_env() -> Result<Self> {
        let set = |name| {
            let value = env::var_os(name).map(PathBuf::from);
            value.filter(|path| path.is_absolute())
        };
        let home = set("HOME");
        let under = |name, fallback: &str| {
            let path = set(name).or_else(|| Some(home.as_ref()?.join(fallback)));
            path.with_context(|| format!("neither {name} nor HOME is set; set one of them"))
        };
        let state = under("XDG_STATE_HOME", ".local/state")?.join("protoplex");
        let running = set("XDG_RUNTIME_DIR").map(|path| path.join("protoplex"));
        Ok(Self {
            running: running.unwrap_or_else(|| state.join("running")),
            state,
            cache: under("XDG_CACHE_HOME", ".cache")?.join("protoplex"),
        })
    }
}

/// Makes a folder that only its owner can enter.
///
/// # Errors
/// When it cannot be made.
pub fn create_private(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    let made = builder.create(path);
    made.with_context(|| format!("making the folder {}", path.display()))
}

/// Writes a file as a whole, readable by its owner only.
///
/// # Errors
/// When the disk refuses.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let folder = path.parent().context("a file stands in a folder")?;
    let write = || {
        // Mode 0600, as all of tempfile's files.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.persist(path)?;
        anyhow::Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}
