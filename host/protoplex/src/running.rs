//! The registry of running `up`s: one file each, so that other commands find their Seed.

use crate::places::{create_private, write_whole};
use anyhow::Result;
use protoplex_wire::manifest::Role;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Name of the file in the data folder that has the same content.
pub const DATA_FILE: &str = "up.json";

/// A running `up`: the line that `up --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningUp {
    /// The Seed's URL.
    pub seed: String,
    /// Nodes of the fleet.
    pub nodes: Vec<RunningNode>,
    /// PEM of the authority.
    pub ca: PathBuf,
    /// PEM of the operator's certificate.
    pub cert: PathBuf,
    /// Private key of the operator's certificate.
    pub key: PathBuf,
    /// Data folder of the fleet.
    pub data: PathBuf,
    /// The release key that signs development builds.
    pub release_key: PathBuf,
    /// Process id of `up` itself.
    pub pid: i32,
    /// Process id of the Seed.
    pub seed_pid: Option<u32>,
    /// Time when the fleet began to serve: milliseconds since 1970.
    pub started_unix_ms: u64,
}

/// A node of a running `up`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningNode {
    /// Role of the node.
    pub role: Role,
    /// Name of the node.
    pub name: String,
    /// URL of plain HTTP, `http://…`.
    pub http: String,
    /// URL of HTTPS, `https://…`.
    pub https: String,
    /// URL of liveness and readiness, `http://…`.
    pub health: String,
    /// URL of the meta port, `https://…` by mutual TLS.
    pub meta: String,
    /// Process id of the node's parent.
    pub pid: Option<u32>,
}

impl RunningUp {
    /// Writes the line to the data folder and to the registry. Commands that name the data folder need no registry, so
    /// one that cannot be written to is only told of.
    ///
    /// # Errors
    /// When the disk of the data refuses.
    pub fn publish(&self, registry: Option<&Path>) -> Result<()> {
        let content = serde_json::to_vec(self)?;
        write_whole(&self.data.join(DATA_FILE), &content)?;
        let Some(registry) = registry else {
            return Ok(());
        };
        let registered = create_private(registry)
            .and_then(|()| write_whole(&file_of(registry, self.pid), &content));
        if let Err(error) = registered {
            tracing::warn!(
                data = %self.data.display(),
                error = format!("{error:#}"),
                "the registry of running fleets cannot be written; other commands find this fleet by --data alone"
            );
        }
        Ok(())
    }

    /// Removes the line from the data folder and the registry.
    pub fn withdraw(&self, registry: Option<&Path>) {
        // Nothing depends on it: a file whose process is gone counts for nothing.
        let _ = fs::remove_file(self.data.join(DATA_FILE));
        if let Some(registry) = registry {
            let _ = fs::remove_file(file_of(registry, self.pid));
        }
    }

    /// Reads the line from one file.
    pub fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    fn is_alive(&self) -> bool {
        Pid::from_raw(self.pid).is_some_and(|pid| test_kill_process(pid).is_ok())
    }
}

fn file_of(registry: &Path, pid: i32) -> PathBuf {
    registry.join(format!("up-{pid}.json"))
}

/// Reads the registry: every `up` that runs now, newest first. Files of those that are gone are removed.
pub fn all(registry: &Path) -> Vec<RunningUp> {
    let Ok(entries) = fs::read_dir(registry) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        match RunningUp::read(&path) {
            Some(running) if running.is_alive() => found.push(running),
            Some(_) => {
                let _ = fs::remove_file(&path);
            }
            None => {}
        }
    }
    found.sort_by_key(|running| std::cmp::Reverse(running.started_unix_ms));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(data: &Path, pid: i32, started_unix_ms: u64) -> RunningUp {
        RunningUp {
            seed: format!("https://127.0.0.1:{started_unix_ms}"),
            nodes: Vec::new(),
            ca: "ca".into(),
            cert: "cert".into(),
            key: "key".into(),
            data: data.to_owned(),
            release_key: "release".into(),
            pid,
            seed_pid: None,
            started_unix_ms,
        }
    }

    #[test]
    fn the_newest_living_one_comes_first_and_the_dead_are_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = folder.path().join("registry");
        let (me, init) = (std::process::id() as i32, 1);
        // Above the kernel's largest pid.
        let gone = i32::MAX - 1;
        for (pid, started) in [(me, 5), (gone, 9)] {
            let one = running(folder.path(), pid, started);
            one.publish(Some(&registry)).expect("published");
        }
        assert_eq!(all(&registry), [running(folder.path(), me, 5)]);
        assert!(!file_of(&registry, gone).exists());
        // A process of another user lives, but is not ours: the signal test refuses it unless we are root.
        let other = running(folder.path(), init, 7);
        other.publish(Some(&registry)).expect("published");
        let expected = usize::from(rustix::process::geteuid().is_root()) + 1;
        assert_eq!(all(&registry).len(), expected);
    }

    #[test]
    fn what_was_withdrawn_is_not_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = running(folder.path(), std::process::id() as i32, 5);
        one.publish(Some(folder.path())).expect("published");
        assert_eq!(
            RunningUp::read(&folder.path().join(DATA_FILE)),
            Some(one.clone())
        );
        one.withdraw(Some(folder.path()));
        assert!(all(folder.path()).is_empty());
    }
}
