//! Folders of this user, by the XDG base directories. The only reader of those variables.

use anyhow::{Context as _, Result};
use std::{
    env,
    path::{Path, PathBuf},
};

/// The user's folders, as far as there are any: a daemon has none.
#[derive(Clone, Debug, Default)]
pub struct UserFolders {
    /// Folder of running processes; emptied by the system when the user leaves, where it has such a place.
    pub running: Option<PathBuf>,
    state: Option<PathBuf>,
    cache: Option<PathBuf>,
}

impl UserFolders {
    /// Finds the folders by the environment.
    pub fn from_env() -> Self {
        Self::from(|name| env::var_os(name).map(PathBuf::from))
    }

    fn from(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let set = |name| variable(name).filter(|path| path.is_absolute());
        // A home is given to a user, and nothing that we make.
        let home = set("HOME").filter(|home| home.is_dir());
        let under = |name, fallback: &str| {
            let path = set(name).or_else(|| Some(home.as_ref()?.join(fallback)))?;
            Some(path.join("protoplex"))
        };
        let state = under("XDG_STATE_HOME", ".local/state");
        let running = set("XDG_RUNTIME_DIR").map(|path| path.join("protoplex"));
        Self {
            running: running.or_else(|| Some(state.as_ref()?.join("running"))),
            state,
            cache: under("XDG_CACHE_HOME", ".cache"),
        }
    }

    /// Folder of things to keep.
    ///
    /// # Errors
    /// When the user has no home.
    pub fn state(&self) -> Result<&Path> {
        let state = self.state.as_deref();
        state.context("this user has no HOME to keep data in; name a folder with --data DIR")
    }

    /// Folder of native code: the user's cache, shared by all that run here; in the folder of the data where there is
    /// none that can be written to.
    pub fn native_cache(&self, data: &Path) -> PathBuf {
        let shared = self.cache.as_ref().map(|cache| cache.join("native"));
        let usable = |folder: &PathBuf| {
            create_private(folder).is_ok() && tempfile::tempfile_in(folder).is_ok()
        };
        shared.filter(usable).unwrap_or_else(|| data.join("native"))
    }
}

/// Makes a folder that only its owner can enter.
///
/// # Errors
/// When it cannot be made.
pub fn create_private(path: &Path) -> Result<()> {
    let made = protoplex_disk::create_dir_all(path, protoplex_disk::PRIVATE_DIR);
    made.with_context(|| format!("making the folder {}", path.display()))
}

/// Writes a file as a whole, readable by its owner only.
///
/// # Errors
/// When the disk refuses.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let written = protoplex_disk::write_whole(path, content);
    written.with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_home_keeps_all_in_the_named_folder() {
        let data = Path::new("/srv/site");
        for home in [None, Some(""), Some("relative"), Some("/no/such/home")] {
            let places = UserFolders::from(|name| (name == "HOME").then_some(home?.into()));
            assert_eq!(places.running, None, "{home:?}");
            assert_eq!(places.native_cache(data), data.join("native"), "{home:?}");
            let error = places.state().expect_err("nowhere").to_string();
            assert!(error.ends_with("--data DIR"), "{error}");
        }
    }

    #[test]
    fn a_home_that_cannot_be_written_to_is_not_needed() {
        // Nobody can make a folder there, whoever runs this.
        let places = UserFolders::from(|name| (name == "HOME").then(|| "/proc/self".into()));
        let data = Path::new("/srv/site");
        assert_eq!(places.native_cache(data), data.join("native"));
    }

    #[test]
    fn a_user_with_a_home_shares_native_code() {
        let home = tempfile::tempdir().expect("a folder");
        let places = UserFolders::from(|name| (name == "HOME").then(|| home.path().to_owned()));
        let shared = home.path().join(".cache/protoplex/native");
        assert_eq!(places.native_cache(Path::new("/srv/site")), shared);
        let state = home.path().join(".local/state/protoplex");
        assert_eq!(places.state().expect("a home"), state);
        assert_eq!(places.running, Some(state.join("running")));
    }
}
