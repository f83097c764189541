//! Output of commands: data goes to stdout, everything else to stderr.

use anyhow::Result;
use serde::Serialize;
use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, SystemTime},
};

/// Writes a line of data. A reader that went away (`| head`) ends the program quietly.
pub fn line(text: impl Display) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        done => Ok(done?),
    }
}

/// Writes a value as one line of JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    line(serde_json::to_string(value)?)
}

/// Writes a value as one line of JSON for whoever started this process, which goes on where nobody reads it.
///
/// # Errors
/// The line could not be written.
pub fn announce(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// Writes a line of data about what goes on, whether or not anybody reads it.
///
/// # Errors
/// The line could not be written.
pub fn report(text: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Says something to the person. What cannot be written to stderr is lost, since nobody is there to read it.
pub fn say(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person watches stderr.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Stream that a text is written to: each may be a terminal, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Stream of data.
    Stdout,
    /// Stream of everything else.
    Stderr,
}

/// Whether colours are wanted on a stream.
pub fn has_color(to: OutputStream) -> bool {
    let watched = match to {
        OutputStream::Stdout => io::stdout().is_terminal(),
        OutputStream::Stderr => is_watched(),
    };
    watched && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Formats a word of state, coloured where that is wanted.
pub fn state(word: &str, good: bool, to: OutputStream) -> String {
    match (has_color(to), good) {
        (false, _) => word.to_owned(),
        (true, true) => format!("\x1b[32m{word}\x1b[0m"),
        (true, false) => format!("\x1b[31m{word}\x1b[0m"),
    }
}

/// Writes rows with their columns aligned; the first is the heading.
pub fn table<const N: usize>(rows: &[[String; N]]) -> Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells = row.iter().zip(widths);
        let text: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line(text.join("  ").trim_end())?;
    }
    Ok(())
}

/// Formats a time of the Seed's clock as `3 min ago`.
pub fn ago(unix_ms: u64) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms);
    match then.elapsed().unwrap_or_default().as_secs() {
        s @ 0..120 => format!("{s} s ago"),
        s @ 120..7_200 => format!("{} min ago", s / 60),
        s @ 7_200..172_800 => format!("{} h ago", s / 3_600),
        s => format!("{} days ago", s / 86_400),
    }
}

/// Formats a number of bytes as `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB"];
    let mut value = count as f64;
    let mut unit = "B";
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }
}
