//! The log, on stderr: JSON lines for the processes of a fleet, plain text for people.

use std::io;
use tracing_subscriber::{EnvFilter, fmt, fmt::format::JsonFields};

/// The variable that filters it.
const FILTER_ENV: &str = "PROTOPLEX_LOG";

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// `logs`, and whatever collects the files.
    Machine,
    /// A person at the command.
    Person,
}

/// Starts the log of this process.
pub fn start(reader: Reader) {
    let filter = EnvFilter::try_from_env(FILTER_ENV).unwrap_or_else(|_| EnvFilter::new("info"));
    match reader {
        Reader::Machine => fmt()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .fmt_fields(JsonFields::new())
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .init(),
        Reader::Person => fmt()
            .compact()
            .with_target(false)
            .with_ansi(super::output::has_color(super::output::To::Stderr))
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .init(),
    }
}
