//! Programs `bench-live` that hold connections while something is measured, told what to do line by line.

use crate::load::figures;
use anyhow::{Context, ensure};
use protoplex_tests::program;
use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// One that runs. It ends when this is dropped.
pub struct Client {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Client {
    /// Starts it; [`Self::ready`] waits for its connections.
    pub fn start(args: &[impl AsRef<OsStr>]) -> anyhow::Result<Self> {
        let mut process = Command::new(program()?.with_file_name("bench-live"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("bench-live cannot be started")?;
        let input = process.stdin.take();
        let output = process.stdout.take().context("stdout is piped")?;
        Ok(Self {
            process,
            input,
            output: BufReader::new(output),
        })
    }

    /// All connections are open.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        let said = self.line()?;
        ensure!(said == "ready", "bench-live says {said:?}");
        Ok(())
    }

    /// Tells it something, and reads the figures that it answers.
    pub fn ask(&mut self, line: &str) -> anyhow::Result<Vec<f64>> {
        self.tell(line)?;
        self.answer()
    }

    /// Tells it something; [`Self::answer`] reads what comes of it.
    pub fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("stdin is piped")?;
        Ok(writeln!(input, "{line}")?)
    }

    /// The next figures.
    pub fn answer(&mut self) -> anyhow::Result<Vec<f64>> {
        figures(&self.line()?)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "bench-live ended; it says why above");
        Ok(line.trim().to_owned())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The end of its input is its own; one that is stuck is not waited for.
        drop(self.input.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
