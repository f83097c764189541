//! A file system of a few megabytes that a test fills and frees, and that nobody else sees.

use anyhow::{Context, ensure};
use rustix::process::getuid;
use std::{
    env,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

/// Names the folder to a test that runs with a disk.
const FOLDER_ENV: &str = "PROTOPLEX_TEST_DISK";
/// Written beside the disk when the test has passed: a name that no test has would pass as well.
const PASSED: &str = "passed";
/// In the order of its arguments: the size, the mount point, the command.
const MOUNT: &str = "mount -t tmpfs -o size=$0 tmpfs \"$1\" && shift && exec \"$@\"";
/// A page of a tmpfs: what is left below that cannot be had by another file.
const BLOCK_BYTES: usize = 4 << 10;

/// The disk of the running test.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Runs the calling test with a disk of so many bytes. The test's binary is started once more, in a mount namespace
    /// of its own, so nothing stays mounted; `test` is the test's name with its modules.
    ///
    /// # Errors
    /// No namespace or no mount: neither root, nor a system that lets users have them. Or the test failed; it has said
    /// how.
    pub fn run(test: &str, bytes: u64, body: impl AsyncFnOnce(&Self)) -> anyhow::Result<()> {
        if let Some(folder) = env::var_os(FOLDER_ENV) {
            let folder = PathBuf::from(folder);
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(body(&Self(folder.join("disk"))));
            return Ok(fs::write(folder.join(PASSED), "")?);
        }
        let folder = tempfile::tempdir()?;
        let disk = folder.path().join("disk");
        fs::create_dir(&disk)?;
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !getuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["sh", "-c", MOUNT, &bytes.to_string()]);
        command.arg(&disk).arg(env::current_exe()?);
        command.args([test, "--exact", "--nocapture"]);
        let status = command.env(FOLDER_ENV, folder.path()).status();
        let status = status.context("`unshare` cannot be started; it is part of util-linux")?;
        let passed = folder.path().join(PASSED).exists();
        ensure!(status.success() && passed, "{test}: {status}");
        Ok(())
    }

    /// The folder where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file until there is no room for another byte, as a neighbour on the disk would. Goes on where it was.
    ///
    /// # Errors
    /// The disk refuses for another reason.
    pub fn fill(&self) -> anyhow::Result<()> {
        self.take(u64::MAX)
    }

    /// Adds so many bytes to the neighbour's file, or as many as there is room for.
    ///
    /// # Errors
    /// The disk refuses for another reason.
    pub fn take(&self, bytes: u64) -> anyhow::Result<()> {
        let path = self.filler();
        let mut filler = File::options().append(true).create(true).open(path)?;
        for _ in 0..bytes / BLOCK_BYTES as u64 {
            match filler.write_all(&[0xff; BLOCK_BYTES]) {
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                written => written?,
            }
        }
        Ok(())
    }

    /// Removes that file.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn free(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}
