//! The log: JSON lines for the processes of a fleet, plain text for people.

use protoplex_telemetry::log_output;
use std::{backtrace::Backtrace, panic, path::Path, time::Duration};
use tracing_subscriber::{EnvFilter, fmt, fmt::format::JsonFields};

/// Name of the environment variable that filters the log.
const FILTER_ENV: &str = "PROTOPLEX_LOG";

/// Reader of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogReader {
    /// Programs: `logs`, and whatever collects the files.
    Machine,
    /// A person at the command.
    Person,
}

/// Time that a process which ends waits for its last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts the log of this process, on standard error where no file is named. Whatever becomes of it, nobody who logs
/// waits for it or fails by it.
pub fn start(reader: LogReader, file: Option<&Path>) {
    let notice = match reader {
        LogReader::Machine => lost_lines_json,
        LogReader::Person => lost_lines,
    };
    log_output::start(file, notice);
    if reader == LogReader::Machine {
        // The default hook writes by itself, and would wait for a reader that stands still.
        panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            tracing::error!(%panic, %backtrace, "a task panicked");
        }));
    }
    let filter = EnvFilter::try_from_env(FILTER_ENV).unwrap_or_else(|_| EnvFilter::new("info"));
    match reader {
        LogReader::Machine => fmt()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .fmt_fields(JsonFields::new())
            .with_env_filter(filter)
            .log_internal_errors(false)
            .with_writer(log_output::writer)
            .init(),
        LogReader::Person => fmt()
            .compact()
            .with_target(false)
            .with_ansi(super::output::has_color(
                super::output::OutputStream::Stderr,
            ))
            .with_env_filter(filter)
            .log_internal_errors(false)
            .with_writer(log_output::writer)
            .init(),
    }
}

/// Waits for the last lines to be written, not for ever.
pub fn end() {
    log_output::flush(FLUSH_TIMEOUT);
}

fn lost_lines(count: u64) -> String {
    format!("WARN {count} log lines were lost: the log could not be written")
}

fn lost_lines_json(count: u64) -> String {
    serde_json::json!({
        "level": "WARN",
        "message": "log lines were lost: the log could not be written",
        "lines": count,
    })
    .to_string()
}
