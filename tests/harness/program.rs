//! Programs beside the platform that a test starts: other servers, and drivers in Python.

use crate::{repository, signal};
use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use std::{
    ffi::OsStr,
    fs::File,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Whatever is waited for has happened by then.
const WAIT_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// Where Debian keeps daemons.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A program in a folder of its own. It ends with the test.
pub struct Program {
    process: Child,
    folder: TempDir,
}

impl Program {
    /// Starts `name` after `files` were written into its folder, where it runs. What it prints goes to the file `out`.
    ///
    /// # Errors
    /// It is not installed, or the disk refuses.
    pub fn start(
        name: impl AsRef<OsStr>,
        args: &[&str],
        files: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        for (file, text) in files {
            std::fs::write(folder.path().join(file), text)?;
        }
        let out = File::create(folder.path().join("out"))?;
        let name = name.as_ref();
        let process = Command::new(name)
            .args(args)
            .env("PATH", PATH)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn();
        let process =
            process.with_context(|| format!("{name:?} cannot be started; run `just setup`"))?;
        Ok(Self { process, folder })
    }

    /// Folder of the program.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Text that the program has printed, or written into another file of its folder.
    pub fn text(&self, file: &str) -> String {
        let bytes = std::fs::read(self.folder().join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until one of its files has what `find` looks for.
    ///
    /// # Errors
    /// It never has, or the program is at its end.
    pub fn wait_for<T>(
        &mut self,
        file: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let text = self.text(file);
            if let Some(found) = find(&text) {
                return Ok(found);
            }
            let ended = self.process.try_wait()?;
            ensure!(
                ended.is_none() && Instant::now() < deadline,
                "not what it should say: {text}"
            );
            std::thread::sleep(POLL);
        }
    }

    /// Waits for its own end, and gives what it printed.
    ///
    /// # Errors
    /// It goes on for longer than `max`.
    pub fn finished(&mut self, max: Duration) -> anyhow::Result<String> {
        let deadline = Instant::now() + max;
        while self.process.try_wait()?.is_none() {
            ensure!(
                Instant::now() < deadline,
                "it goes on: {}",
                self.text("out")
            );
            std::thread::sleep(POLL);
        }
        Ok(self.text("out"))
    }

    /// Waits until somebody accepts there.
    ///
    /// # Errors
    /// Nobody does, or the program is at its end.
    pub fn wait_for_port(&mut self, address: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + WAIT_MAX;
        while TcpStream::connect(address).is_err() {
            if self.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("it does not accept: {}", self.text("out"));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Softly first: some take children along.
        let pid = i32::try_from(self.process.id()).unwrap_or_default();
        let _ = signal(pid, Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(2);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that was free a moment ago, for a program that cannot choose one itself.
///
/// # Errors
/// There is none.
pub fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// The Python with the packages of `.ci/requirements-tests.txt`.
///
/// # Errors
/// It has not been set up.
pub fn python() -> anyhow::Result<PathBuf> {
    let python = repository().join(".venv/bin/python");
    ensure!(python.exists(), "{python:?} is missing; run `just setup`");
    Ok(python)
}
